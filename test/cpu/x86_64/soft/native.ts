// Soft helpers beside this machine's own instructions: the same operands, the same MXCSR.

import { littleEndian } from '../../../asm/encoder.ts';
import * as N from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeTarget } from '../../../native/native-target.ts';

/** One run of an instruction: halves of XMM0 and XMM1 (low ones first), MXCSR, and general registers before it. */
export interface Start {
  readonly mxcsr?: number;
  readonly xmm: readonly [bigint, bigint, bigint, bigint];
  /** RAX is in MM0 as well, RCX in MM1. */
  readonly rax?: bigint;
  readonly rcx?: bigint;
  readonly rdx?: bigint;
  /** RBX points to memory this many bytes from an aligned place, which holds what XMM1 holds. */
  readonly memory?: number;
}

export interface End {
  readonly mxcsr: number;
  /** Halves of XMM0 and XMM1. */
  readonly xmm: readonly [bigint, bigint, bigint, bigint];
  /** MM0 and MM1. */
  readonly mm: readonly [bigint, bigint];
  readonly rax: bigint;
  readonly rcx: bigint;
  readonly rflags: number;
  /** Halves of the sixteen bytes at RBX. */
  readonly memory: readonly [bigint, bigint];
  /** Vector of the exception, or -1. */
  readonly vector: number;
}

const FX_MXCSR = 0x18;
const FX_ST = 0x20;
const FX_XMM = 0xa0;

/** Runs one instruction over many starts. */
export function runNative(instruction: readonly number[], starts: readonly Start[]): End[] {
  const ends: End[] = [];
  for (let i = 0; i < starts.length; i += N.MAX_CASES) {
    ends.push(...runBatch(instruction, starts.slice(i, i + N.MAX_CASES)));
  }
  return ends;
}

function runBatch(instruction: readonly number[], starts: readonly Start[]): End[] {
  const target = nativeTarget();
  const exit = machineCode().labels.get('exit_next') as number;
  const views = starts.map((start, index) => {
    const view = new DataView(target.cases.buffer, target.cases.byteOffset + index * N.CASE_SIZE, N.CASE_SIZE);
    new Uint8Array(view.buffer, view.byteOffset, N.CASE_SIZE).fill(0);
    const address = N.CODE + index * N.CODE_SLOT;
    target.code.set(
      [...instruction, 0xe9, ...littleEndian(exit - (address + instruction.length + 5), 4)],
      index * N.CODE_SLOT,
    );
    view.setBigUint64(N.CASE_CODE, BigInt(address), true);
    view.setUint32(N.CASE_USE, N.USE_FX, true);
    view.setUint32(N.CASE_RFLAGS, 0x202, true);
    view.setBigUint64(N.CASE_GPR, start.rax ?? 0n, true);
    view.setBigUint64(N.CASE_GPR + 8, start.rcx ?? 0n, true);
    view.setBigUint64(N.CASE_GPR + 16, start.rdx ?? 0n, true);
    view.setBigUint64(N.CASE_GPR + 32, BigInt(N.CASES + N.CASE_MEMORY + 256), true);
    const memory = N.CASE_MEMORY + (start.memory ?? 0);
    view.setBigUint64(N.CASE_GPR + 24, BigInt(N.CASES + index * N.CASE_SIZE + memory), true);
    view.setBigUint64(memory, start.xmm[2], true);
    view.setBigUint64(memory + 8, start.xmm[3], true);
    view.setUint16(N.CASE_FX, 0x37f, true);
    view.setUint32(N.CASE_FX + FX_MXCSR, start.mxcsr ?? 0x1f80, true);
    view.setBigUint64(N.CASE_FX + FX_ST, start.rax ?? 0n, true);
    view.setBigUint64(N.CASE_FX + FX_ST + 16, start.rcx ?? 0n, true);
    start.xmm.forEach((half, i) => {
      view.setBigUint64(N.CASE_FX + FX_XMM + i * 8, half, true);
    });
    return view;
  });
  target.run(starts.length);
  const memoryOf = (view: DataView, i: number): End['memory'] => {
    const at = N.CASE_MEMORY + ((starts[i] as Start).memory ?? 0);
    return [view.getBigUint64(at, true), view.getBigUint64(at + 8, true)];
  };
  return views.map((view, i) => ({
    memory: memoryOf(view, i),
    mm: [view.getBigUint64(N.CASE_FX_OUT + FX_ST, true), view.getBigUint64(N.CASE_FX_OUT + FX_ST + 16, true)],
    mxcsr: view.getUint32(N.CASE_FX_OUT + FX_MXCSR, true),
    xmm: [0, 1, 2, 3].map((half) =>
      view.getBigUint64(N.CASE_FX_OUT + FX_XMM + half * 8, true),
    ) as unknown as End['xmm'],
    rax: view.getBigUint64(N.CASE_OUT_GPR, true),
    rcx: view.getBigUint64(N.CASE_OUT_GPR + 8, true),
    rflags: Number(view.getBigUint64(N.CASE_OUT_RFLAGS, true)),
    vector: view.getUint32(N.CASE_OUT, true) === N.EXIT_FAULT ? view.getUint32(N.CASE_OUT_VECTOR, true) : -1,
  }));
}
