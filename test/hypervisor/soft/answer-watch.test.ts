// When a guest on the built-in processor is interrupted by a device that answers a moment after its notification.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { EventFd } from '../../../src/host/eventfd.ts';
import { setFaultHook } from '../../../src/host/ffi.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';
import { type Assembler, absolute } from '../../asm/assembler.ts';
import { BareMachine, done, expectDone } from '../bare/machine.ts';
import * as M from '../bare/map.ts';

const LINE = 24;
const VECTOR = 0x51;
/** Signals the event that is the line's. */
const ANSWERED = 0x99;
/** Signals an event that nobody takes. */
const UNANSWERED = 0x9a;
/** The handler's word in memory: it has run. */
const INTERRUPTED = M.DATA;
/** Instructions of a turn of the guest's loop. */
const TURN = 3;
const NOTIFICATIONS = 64;

const machine = new BareMachine(soft);
const [event, other] = [new EventFd(), new EventFd()];
machine.vm.setGsiRouting([{ gsi: LINE, kind: 'msi', msi: { address: 0xfee00000n, data: VECTOR } }]);
machine.vm.registerIrqfd(event, LINE);
machine.vm.registerIoEvent(event, { space: 'pio', address: ANSWERED, length: 1 });
machine.vm.registerIoEvent(other, { space: 'pio', address: UNANSWERED, length: 1 });
/** Looks for answers that find none yet. */
let early = 0;
setFaultHook((name, [fd]) => {
  if (name === 'eventfd_write' && fd === event.fd) early = 1;
  return name === 'epoll_wait' && early-- > 0 ? 0 : undefined;
});
after(() => {
  setFaultHook(undefined);
  machine.close();
  for (const each of [event, other]) each.close();
});

/** Runs a program with the local APIC and interrupts on; returns EBX. */
function run(program: (a: Assembler) => void): bigint {
  const outcome = machine.run(
    (a) => {
      a.mov('ecx', 0x80f);
      a.mov('eax', 0x1ff);
      a.xor('edx', 'edx');
      a.wrmsr();
      a.sti();
      a.xor('ebx', 'ebx');
      program(a);
      done(a);
    },
    {
      before: (sregs) => (sregs.apicBase = 0xfee00d00n),
      onFault: ({ vector }) => {
        assert.equal(vector, VECTOR);
        machine.vcpu.setMsr(0x80b, 0n);
        machine.memory.writeU32(INTERRUPTED, 1);
        return true;
      },
    },
  );
  expectDone(outcome);
  return outcome.regs.rbx;
}

/** Instructions from a notification to its interrupt, of a guest that has something else to do. */
function wait(): number {
  const turns = run((a) => {
    a.out(ANSWERED, 'al');
    a.label('loop');
    a.inc('ebx');
    a.cmp(absolute(INTERRUPTED, 4), 0);
    a.jcc('e', 'loop');
  });
  return Number(turns) * TURN;
}

/** A guest that halts after its notification. */
function halt(): void {
  run((a) => {
    a.out(ANSWERED, 'al');
    a.hlt();
  });
}

test('a guest that has not waited is interrupted late, so that more may be done by then', () => {
  assert.ok(wait() > 10_000);
});

test('one that has halted for its answer gets the next ones soon, so that it need not halt', () => {
  halt();
  for (let i = 0; i < NOTIFICATIONS; i++) assert.ok(wait() < 2000);
  assert.ok(wait() > 10_000);
});

test('a device that takes longer is not waited for', () => {
  halt();
  assert.ok(wait() < 2000);
  run((a) => {
    a.out(UNANSWERED, 'al');
    a.mov('ecx', 20_000);
    a.label('loop');
    a.dec('ecx');
    a.jcc('ne', 'loop');
  });
  assert.ok(wait() > 10_000);
});
