// Runs classic BPF on a system call, as the kernel does, for tests.
import { BPF_INSTRUCTION_SIZE, BPF_MAXINSNS } from '../../src/jail/bpf.ts';

export interface Call {
  readonly number: number;
  /** An AUDIT_ARCH_* value. */
  readonly arch: number;
  readonly args: readonly bigint[];
}

export const AUDIT_ARCH_X86_64 = 0xc000_003e;

/** The program's answer. Throws where the kernel's checker would refuse the program (jumps outside, unknown codes, no return). */
export function runFilter(program: Uint8Array, { number, arch, args }: Call): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, number, true);
  data.setUint32(4, arch, true);
  for (const [i, value] of args.entries()) data.setBigUint64(16 + i * 8, value, true);

  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const length = program.length / BPF_INSTRUCTION_SIZE;
  if (!Number.isInteger(length) || length === 0 || length > BPF_MAXINSNS) throw new Error(`${length} instructions`);
  let a = 0;
  for (let at = 0; ; at++) {
    if (at >= length) throw new Error('the program runs past its end');
    const base = at * BPF_INSTRUCTION_SIZE;
    const k = view.getUint32(base + 4, true);
    const jump = (condition: boolean): void => {
      at += view.getUint8(base + (condition ? 2 : 3));
    };
    switch (view.getUint16(base, true)) {
      case 0x20:
        if (k % 4 !== 0 || k >= 64) throw new Error(`load from ${k}`);
        a = data.getUint32(k, true);
        break;
      case 0x05:
        at += k;
        break;
      case 0x15:
        jump(a === k);
        break;
      case 0x25:
        jump(a > k);
        break;
      case 0x35:
        jump(a >= k);
        break;
      case 0x45:
        jump((a & k) !== 0);
        break;
      case 0x06:
        return k;
      default:
        throw new Error(`instruction ${view.getUint16(base, true).toString(16)}`);
    }
  }
}
