/** The common configuration structure of virtio over PCI (virtio 1.2, 4.1.4.3): fields by their offsets. */
import type { Transport } from './transport.ts';

interface Field {
  /** Bytes. */
  readonly size: number;
  readonly read: (transport: Transport) => number;
  readonly write?: (transport: Transport, value: number) => void;
}

export const COMMON_CONFIG_SIZE = 0x40;

/** Vectors that exist are below this; the driver sees of any other that it did not take. */
type Vectors = number;

const address = (which: 'descriptors' | 'driver' | 'device', half: 0 | 1): Field => ({
  size: 4,
  read: (t) => t.queueAddressHalf(which, half),
  write: (t, value) => t.setQueueAddressHalf(which, half, value),
});

function fields(vectors: Vectors): ReadonlyMap<number, Field> {
  const vector = (value: number): number => (value < vectors ? value : 0xffff);
  return new Map<number, Field>([
    [0x00, { size: 4, read: (t) => t.featureSelect, write: (t, v) => (t.featureSelect = v) }],
    [0x04, { size: 4, read: (t) => t.deviceFeatures }],
    [0x08, { size: 4, read: (t) => t.driverFeatureSelect, write: (t, v) => (t.driverFeatureSelect = v) }],
    [0x0c, { size: 4, read: (t) => t.driverFeatures, write: (t, v) => (t.driverFeatures = v) }],
    [0x10, { size: 2, read: (t) => t.state.configVector, write: (t, v) => (t.state.configVector = vector(v)) }],
    [0x12, { size: 2, read: (t) => t.model.queueSizes.length }],
    [0x14, { size: 1, read: (t) => t.status, write: (t, v) => t.writeStatus(v) }],
    [0x15, { size: 1, read: (t) => t.configGeneration & 0xff }],
    [0x16, { size: 2, read: (t) => t.queueSelect, write: (t, v) => (t.queueSelect = v) }],
    [0x18, { size: 2, read: (t) => t.queueSize, write: (t, v) => (t.queueSize = v) }],
    [0x1a, { size: 2, read: (t) => t.queueVector, write: (t, v) => (t.queueVector = vector(v)) }],
    [
      0x1c,
      {
        size: 2,
        read: (t) => (t.queueEnabled ? 1 : 0),
        // A driver must not write anything else.
        write: (t, v) => {
          if (v === 1) t.enableQueue();
        },
      },
    ],
    [0x1e, { size: 2, read: (t) => t.queue ?? 0 }],
    [0x20, address('descriptors', 0)],
    [0x24, address('descriptors', 1)],
    [0x28, address('driver', 0)],
    [0x2c, address('driver', 1)],
    [0x30, address('device', 0)],
    [0x34, address('device', 1)],
  ]);
}

/** The structure's registers. Accesses of another width than the field's read zeroes and write nothing. */
export class CommonConfig {
  readonly #transport: Transport;
  readonly #fields: ReadonlyMap<number, Field>;

  constructor(transport: Transport, vectors: Vectors) {
    this.#transport = transport;
    this.#fields = fields(vectors);
  }

  read(offset: number, data: Uint8Array): void {
    data.fill(0);
    const field = this.#fields.get(offset);
    if (field === undefined || field.size !== data.length) return;
    const value = field.read(this.#transport);
    for (let i = 0; i < data.length; i++) data[i] = (value >>> (8 * i)) & 0xff;
  }

  write(offset: number, data: Uint8Array): void {
    const field = this.#fields.get(offset);
    if (field === undefined || field.size !== data.length) return;
    let value = 0;
    for (let i = data.length - 1; i >= 0; i--) value = value * 256 + (data[i] as number);
    field.write?.(this.#transport, value);
  }
}
