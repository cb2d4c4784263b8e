// A machine whose I/O APIC, 8259 pair and 8254 are not the kernel's.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KvmVm } from '../../../src/hypervisor/kvm/vm.ts';
import { CODE, onGuest, withoutKvm } from './guest.ts';

const onKvm = { skip: withoutKvm };

/** Port that the guests below tell by. */
const TELL = 0x80;

const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];

test(
  'a countdown of the 8254 wakes the processor through the 8259',
  onKvm,
  onGuest(
    (guest) => {
      const handler = CODE + 0x200;
      guest.ram.set([handler & 0xff, handler >> 8, 0, 0], 0x20 * 4);
      guest.ram.set([...out(TELL, 0x42), 0xf4], handler);
      guest.ram.set(
        [
          ...[...out(0x20, 0x11), ...out(0x21, 0x20), ...out(0x21, 4), ...out(0x21, 1), ...out(0x21, 0xfe)],
          // Channel 0, mode 0, 256 ticks: 0.2 ms.
          ...[...out(0x43, 0x30), ...out(0x40, 0x00), ...out(0x40, 0x01)],
          ...[0xfb, 0xf4, 0xeb, 0xfd], // sti; hlt; again
        ],
        CODE,
      );
      guest.start(CODE);
      const exit = guest.run();
      assert.deepEqual(exit, { kind: 'io-out', port: TELL, data: Uint8Array.of(0x42) });
    },
    { splitIrqchip: true },
  ),
);

test(
  'the chips answer at their ports and in their page, and are not seen outside',
  onKvm,
  onGuest(
    (guest) => {
      guest.ram.set([...out(0x21, 0x5a), 0xe4, 0x21, 0xe6, TELL], CODE); // in al, 0x21
      guest.start(CODE);
      assert.deepEqual(guest.run(), { kind: 'io-out', port: TELL, data: Uint8Array.of(0x5a) });
    },
    { splitIrqchip: true },
  ),
);

test('machines begin and end', onKvm, () => {
  for (let i = 0; i < 5; i++) KvmVm.create({ vcpuCount: 1, splitIrqchip: true }).close();
});
