import type { BusDevice } from './bus.ts';

/** Takes an address range and does nothing: reads leave the data as it is, writes are ignored. */
export class NullDevice implements BusDevice {
  read(): void {}

  write(): void {}
}
