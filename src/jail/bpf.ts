/** Classic BPF as seccomp takes it (linux/filter.h, linux/seccomp.h). */

/** Bytes of struct sock_filter: u16 code, u8 jt, u8 jf, u32 k. */
export const BPF_INSTRUCTION_SIZE = 8;
/** Instructions of a program, at most. */
export const BPF_MAXINSNS = 4096;

/** A <- the 32-bit word at k of struct seccomp_data. */
export const BPF_LD_W_ABS = 0x20;
export const BPF_JMP_JA = 0x05;
export const BPF_JMP_JEQ_K = 0x15;
export const BPF_JMP_JGT_K = 0x25;
export const BPF_JMP_JGE_K = 0x35;
/** A & k is not 0. */
export const BPF_JMP_JSET_K = 0x45;
export const BPF_RET_K = 0x06;

// struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6].
export const SECCOMP_DATA_NR = 0;
export const SECCOMP_DATA_ARCH = 4;
export const SECCOMP_DATA_ARGS = 16;

export const SECCOMP_RET_KILL_PROCESS = 0x8000_0000;
export const SECCOMP_RET_ERRNO = 0x0005_0000;
export const SECCOMP_RET_USER_NOTIF = 0x7fc0_0000;
export const SECCOMP_RET_ALLOW = 0x7fff_0000;

/** A place in a program that is being written. */
export type BpfLabel = number & { readonly brand: 'BpfLabel' };

/**
 * Writes a program from its end to its start: jumps go forward only, so that each one's target is already there. Where a
 * conditional jump, which reaches 255 instructions, is too short, a jump that reaches all is put behind it.
 */
export class BpfWriter {
  /** Last instruction first. */
  readonly #reversed: { readonly code: number; readonly jt: number; readonly jf: number; readonly k: number }[] = [];

  /** The instruction that was written last, which is the first of those that are there. */
  get here(): BpfLabel {
    return this.#reversed.length as BpfLabel;
  }

  /** Ends the program with `value`. */
  ret(value: number): BpfLabel {
    return this.#push(BPF_RET_K, 0, 0, value);
  }

  /** Loads a word of struct seccomp_data and goes on with what was written last. */
  load(offset: number): BpfLabel {
    return this.#push(BPF_LD_W_ABS, 0, 0, offset);
  }

  jump(target: BpfLabel): BpfLabel {
    const distance = this.#distance(target);
    return distance === 0 ? this.here : this.#push(BPF_JMP_JA, 0, 0, distance);
  }

  /** `code`: a BPF_JMP_*_K. */
  branch(code: number, k: number, ifTrue: BpfLabel, ifFalse: BpfLabel): BpfLabel {
    const nearFalse = this.#near(ifFalse, 1);
    const nearTrue = this.#near(ifTrue, 0);
    return this.#push(code, this.#distance(nearTrue), this.#distance(nearFalse), k);
  }

  /** The program as the kernel reads it, in the host's byte order, which is little-endian. */
  finish(): Uint8Array {
    const bytes = new Uint8Array(this.#reversed.length * BPF_INSTRUCTION_SIZE);
    const view = new DataView(bytes.buffer);
    for (const [index, { code, jt, jf, k }] of this.#reversed.toReversed().entries()) {
      const at = index * BPF_INSTRUCTION_SIZE;
      view.setUint16(at, code, true);
      view.setUint8(at + 2, jt);
      view.setUint8(at + 3, jf);
      view.setUint32(at + 4, k, true);
    }
    return bytes;
  }

  /** Instructions that a jump written now skips. */
  #distance(target: BpfLabel): number {
    return this.#reversed.length - target;
  }

  /** The target, or a jump to it, so that a conditional jump reaches it even after `more` further instructions. */
  #near(target: BpfLabel, more: number): BpfLabel {
    return this.#distance(target) + more <= 255 ? target : this.#push(BPF_JMP_JA, 0, 0, this.#distance(target));
  }

  #push(code: number, jt: number, jf: number, k: number): BpfLabel {
    this.#reversed.push({ code, jt, jf, k });
    return this.here;
  }
}
