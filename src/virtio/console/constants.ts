/** The console device's numbers (virtio 1.2, 5.3). */

// Feature bits.
export const VIRTIO_CONSOLE_F_SIZE = 0n;
export const VIRTIO_CONSOLE_F_MULTIPORT = 1n;

// Control events.
export const VIRTIO_CONSOLE_DEVICE_READY = 0;
export const VIRTIO_CONSOLE_PORT_ADD = 1;
export const VIRTIO_CONSOLE_PORT_READY = 3;
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4;
export const VIRTIO_CONSOLE_RESIZE = 5;
export const VIRTIO_CONSOLE_PORT_OPEN = 6;
export const VIRTIO_CONSOLE_PORT_NAME = 7;
/** Bytes of a control message: port, event, value. Some have more after them. */
export const CONTROL_SIZE = 8;

// Offsets in the configuration.
export const CONFIG_COLS = 0;
export const CONFIG_ROWS = 2;
export const CONFIG_MAX_NR_PORTS = 4;
export const CONFIG_SIZE = 12;

export const QUEUE_SIZE = 128;
/** Ports at most: two queues each, and two for control, are what a PCI device has room for. */
export const MAX_PORTS = 30;

/** Numbers of the control queues: what the device sends, what the driver sends. */
export const CONTROL_RECEIVE = 2;
export const CONTROL_TRANSMIT = 3;

/** Number of a port's first queue, to the driver; the one from it comes next. */
export function portQueue(port: number): number {
  return port === 0 ? 0 : 2 + 2 * port;
}
