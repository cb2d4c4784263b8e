import type { BusDevice } from './bus.ts';
import { getLittleEndian } from './device-state.ts';
import type { MachineExit } from './machine-exit.ts';

/** A port for test guests: a write ends the run with the value written (up to 32 bits). Reads as 0. */
export class DebugExit implements BusDevice {
  readonly #exit: MachineExit;

  constructor(exit: MachineExit) {
    this.#exit = exit;
  }

  read(_offset: number, data: Uint8Array): void {
    data.fill(0);
  }

  write(_offset: number, data: Uint8Array): void {
    this.#exit.report({ kind: 'debug-exit', value: getLittleEndian(data) });
  }
}
