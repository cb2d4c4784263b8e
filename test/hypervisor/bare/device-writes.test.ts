// Code that a device has read into memory from where other code was run before.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { absolute } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone } from './machine.ts';
import * as M from './map.ts';

const FUNCTION = M.CODE + 0x3000;
const PORT = 0x99;
/** MOV EAX, value; RET. */
const returning = (value: number): Uint8Array => Uint8Array.of(0xb8, value, 0, 0, 0, 0xc3);

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());

  for (const rounds of [1, 300]) {
    test(`${hypervisor.name}: what a device wrote is run once its page is mapped anew, after ${rounds} calls`, () => {
      let reads = 1;
      const outcome = machine.run(
        (a) => {
          for (const register of ['ebx', 'esi', 'edi'] as const) {
            a.mov('ecx', rounds);
            a.label(`loop_${register}`);
            a.call(FUNCTION);
            a.dec('ecx');
            a.jcc('ne', `loop_${register}`);
            a.mov(register, 'eax');
            a.out(PORT, 'al');
            a.invlpg(absolute(FUNCTION));
          }
          done(a);
        },
        {
          before: () => machine.memory.write(FUNCTION, returning(reads)),
          on: (exit) => {
            if (exit.kind !== 'io-out' || exit.port !== PORT) return false;
            machine.deviceWrite(FUNCTION, returning(++reads));
            return true;
          },
        },
      );
      const { rbx, rsi, rdi } = expectDone(outcome);
      assert.deepEqual([rbx, rsi, rdi], [1n, 2n, 3n]);
    });
  }
}
