import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { nativeFeatures, nativeUnavailable } from '../../../native/native-target.ts';
import { Machine } from '../helpers/machine.ts';
import { casesOfRun, Random } from '../instructions/random.ts';
import { runNative, type Start } from '../soft/native.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 0x7fffffff);
const CASES = casesOfRun();
const FLAGS = 0x8d5;
const machine = new Machine().protected();
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** Why an instruction cannot be compared here. */
function missing(feature: string): string | false {
  return nativeUnavailable() ?? (nativeFeatures().has(feature) ? false : `no ${feature} in this machine`);
}

function load({ xmm, rax, rdx }: Start): void {
  machine.set64(L.RAX, rax ?? 0n);
  machine.set64(L.RCX, 0n);
  machine.set64(L.RDX, rdx ?? 0n);
  for (let i = 0; i < 4; i++) machine.set64(L.XMM + (i >> 1) * L.XMM_SIZE + (i & 1) * 8, xmm[i as 0]);
}

function halves(): bigint[] {
  return [0, 1, 2, 3].map((i) => machine.get64(L.XMM + (i >> 1) * L.XMM_SIZE + (i & 1) * 8));
}

test(`crc32c is the processor's (seed ${seed})`, { skip: missing('sse4_2') }, () => {
  const random = new Random(seed);
  for (const [bytes, code] of [
    // CRC32 EAX, DL; DX; EDX; RAX, RDX.
    [1, [0xf2, 0x0f, 0x38, 0xf0, 0xc2]],
    [2, [0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc2]],
    [4, [0xf2, 0x0f, 0x38, 0xf1, 0xc2]],
    [8, [0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc2]],
  ] as const) {
    const starts = Array.from(
      { length: CASES },
      (): Start => ({ xmm: [0n, 0n, 0n, 0n], rax: random.operand(), rdx: random.operand() }),
    );
    runNative(code, starts).forEach((end, i) => {
      const { rax, rdx } = starts[i] as Required<Start>;
      const got = machine.call('crc32c', Number(BigInt.asIntN(32, rax)), BigInt.asUintN(bytes * 8, rdx), bytes) >>> 0;
      assert.equal(hex(BigInt(got)), hex(end.rax), `${bytes} bytes ${hex(rax)} ${hex(rdx)}`);
    });
  }
});

/** Half of a string register: few different characters, some of them zero. */
function characters(random: Random): bigint {
  const alphabet = random.pick([
    [0x61, 0x62],
    [0x61, 0x62, 0x7f, 0x80, 0xff],
    [0, 0x61, 0x62, 0x63],
    [0, 1, 0x80],
  ]);
  let value = 0n;
  for (let i = 0; i < 8; i++) value = (value << 8n) | BigInt(random.pick(alphabet));
  return random.oneIn(8) ? value & 0xff00ff00ff00ffn : value;
}

for (const [name, opcode, kind] of [
  ['PCMPESTRM', 0x60, 0x300],
  ['PCMPESTRI', 0x61, 0x100],
  ['PCMPISTRM', 0x62, 0x200],
  ['PCMPISTRI', 0x63, 0],
] as const) {
  test(`${name} is the processor's (seed ${seed})`, { skip: missing('sse4_2') }, () => {
    const random = new Random(seed);
    const length = (): bigint =>
      random.oneIn(4) ? random.operand() : BigInt.asUintN(64, BigInt(random.between(-20, 20)));
    const record = L.ARENA;
    for (let immediate = 0; immediate < 128; immediate++) {
      for (const wide of [false, true]) {
        machine.view.setUint8(record + L.R_PREFIX, wide ? L.RP_OP64 : 0);
        const starts = Array.from({ length: 200 }, (): Start => {
          const xmm = [characters(random), characters(random), characters(random), characters(random)] as const;
          return { xmm: random.oneIn(3) ? [xmm[0], xmm[1], xmm[0], xmm[3]] : xmm, rax: length(), rdx: length() };
        });
        runNative([0x66, ...(wide ? [0x48] : []), 0x0f, 0x3a, opcode, 0xc1, immediate], starts).forEach((end, i) => {
          const start = starts[i] as Required<Start>;
          load(start);
          machine.call('string_compare', record, L.XMM, L.XMM + L.XMM_SIZE, immediate | kind);
          const what = `immediate ${immediate} wide ${wide} ${start.xmm.map(hex).join(' ')} ${hex(start.rax)} ${hex(start.rdx)}`;
          assert.deepEqual(halves().map(hex), end.xmm.map(hex), what);
          assert.equal(machine.get64(L.RCX), end.rcx, what);
          assert.equal(machine.rflags & FLAGS, end.rflags & FLAGS, what);
        });
      }
    }
  });
}
