import { assemble } from '../asm/assembler.ts';
import * as L from './layout.ts';
import { runner } from './runner.ts';
import { nativeEntry } from './signals.ts';

export interface MachineCode {
  /** For layout.ts's RUNNER. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly labels: ReadonlyMap<string, number>;
}

let code: MachineCode | undefined;

/** The machine code that every target runs, with the native entry beside it. */
export function machineCode(): MachineCode {
  code ??= assemble(L.RUNNER, 64, (a) => {
    runner(a);
    nativeEntry(a);
  });
  return code;
}
