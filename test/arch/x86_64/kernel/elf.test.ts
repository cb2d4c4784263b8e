import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadElf, parseElf } from '../../../../src/arch/x86_64/kernel/elf.ts';
import { KernelError } from '../../../../src/arch/x86_64/kernel/error.ts';
import { GuestMemory } from '../../../../src/hypervisor/guest-memory.ts';
import { elfImage, START } from './images.ts';
import { sampleBytes } from './sample.ts';

const code = sampleBytes(5000);
const file = elfImage(code, 0x2000, false);
/** What an ELF's headers take: no piece that comes first is shorter. */
const HEADERS = 64 + 56;

function dirtyMemory(): GuestMemory {
  return new GuestMemory([{ guestAddress: 0, bytes: new Uint8Array(START + 0x10000).fill(0xcc) }]);
}

describe('an ELF that comes in pieces', () => {
  for (const step of [1, 7, 4096, file.length]) {
    test(`of ${step} bytes is loaded as a whole one is`, () => {
      const memory = dirtyMemory();
      const pieces = Array.from({ length: Math.ceil((file.length - HEADERS) / step) }, (_, i) =>
        file.subarray(HEADERS + i * step, HEADERS + (i + 1) * step),
      );
      const elf = parseElf(file.subarray(0, HEADERS), file.length);
      assert.deepEqual(loadElf(memory, elf, 'linux64', pieces), { entry: START, end: START + 0x2000 });
      const expected = new Uint8Array(0x2000 + 2).fill(0xcc);
      expected.set(code, 1);
      expected.fill(0, 1 + code.length, 1 + 0x2000);
      assert.deepEqual(memory.read(START - 1, expected.length), expected);
    });
  }

  test('has its segments within its size', () => {
    assert.throws(() => parseElf(file.subarray(0, HEADERS), file.length - 1), KernelError);
  });
});
