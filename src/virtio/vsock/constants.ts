/** The socket device's numbers (virtio 1.2, 5.10). */

// Feature bits. Without any, a device has streams, too.
export const VIRTIO_VSOCK_F_STREAM = 0n;

// Numbers of the queues: what the device sends, what the driver sends, events.
export const RECEIVE = 0;
export const TRANSMIT = 1;
export const QUEUE_SIZES: readonly number[] = [256, 256, 256];

/** Bytes of the configuration: guest_cid, 64 bits. */
export const CONFIG_SIZE = 8;

/** The host's context identifier. */
export const CID_HOST = 2;
/** The smallest one that a guest can have, and the largest: the one after it stands for any. */
export const CID_GUEST_MIN = 3;
export const CID_GUEST_MAX = 2 ** 32 - 2;

/** Type of a packet: of a stream. */
export const VIRTIO_VSOCK_TYPE_STREAM = 1;

// Operations.
export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

// Flags of VIRTIO_VSOCK_OP_SHUTDOWN: who sends it will not receive any more, will not send any more.
export const VIRTIO_VSOCK_SHUTDOWN_RCV = 1;
export const VIRTIO_VSOCK_SHUTDOWN_SEND = 2;
export const SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
