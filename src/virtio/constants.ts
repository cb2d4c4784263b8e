/** Names of the virtio 1.2 specification that all devices and both transports share. */

/** Device status bits (2.1). */
export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;
export const DEVICE_NEEDS_RESET = 64;
export const FAILED = 128;

/** Bits of the ISR status (4.1.4.5, 4.2.2). */
export const ISR_QUEUE = 1;
export const ISR_CONFIG = 2;

/** Feature bits that belong to no device (6), as numbers of bits. */
export const VIRTIO_F_INDIRECT_DESC = 28n;
export const VIRTIO_F_EVENT_IDX = 29n;
export const VIRTIO_F_VERSION_1 = 32n;

/** In place of an MSI-X vector: none (4.1.4.3). */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;

/** Device ids (5). */
export const ID_NET = 1;
export const ID_BLOCK = 2;
export const ID_CONSOLE = 3;
export const ID_RNG = 4;
export const ID_BALLOON = 5;
export const ID_9P = 9;
export const ID_VSOCK = 19;
export const ID_FS = 26;
export const ID_WL = 30;

/** What every device here offers besides its own features. */
export const COMMON_FEATURES = features(VIRTIO_F_VERSION_1, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX);

/** A set of features from numbers of bits. */
export function features(...bits: readonly bigint[]): bigint {
  return bits.reduce((set, bit) => set | (1n << bit), 0n);
}

/** Is bit number `bit` in the set? */
export function hasFeature(set: bigint, bit: bigint): boolean {
  return ((set >> bit) & 1n) === 1n;
}
