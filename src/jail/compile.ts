/** Compiles seccomp policies to classic BPF. */
import {
  BPF_INSTRUCTION_SIZE,
  BPF_JMP_JEQ_K,
  BPF_JMP_JGE_K,
  BPF_JMP_JGT_K,
  BPF_JMP_JSET_K,
  BPF_MAXINSNS,
  type BpfLabel,
  BpfWriter,
  SECCOMP_DATA_ARCH,
  SECCOMP_DATA_ARGS,
  SECCOMP_DATA_NR,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
} from './bpf.ts';
import { type Comparison, type Policy, PolicyError, type Rule, type Verdict } from './policy.ts';
import { SYSCALL_NUMBERS, type SyscallArch } from './syscalls.ts';

/** linux/audit.h: EM_X86_64 and EM_AARCH64, 64-bit, little-endian. */
const AUDIT_ARCH: Readonly<Record<SyscallArch, number>> = { x86_64: 0xc000_003e, aarch64: 0xc000_00b7 };

/** A label and the same label as ways out of a comparison. */
interface Ways {
  readonly ifTrue: BpfLabel;
  readonly ifFalse: BpfLabel;
}

/**
 * The program of a policy. A call by another architecture's numbers ends the process; `forbidden` (a SECCOMP_RET_* value) is
 * the answer to what the policy forbids. Lines for calls that the architecture does not have are left out. Throws
 * PolicyError where the program would be longer than the kernel takes.
 */
export function compilePolicy(policy: Policy, arch: SyscallArch, forbidden: number): Uint8Array {
  const writer = new BpfWriter();
  const numbers = SYSCALL_NUMBERS[arch];
  const kill = writer.ret(SECCOMP_RET_KILL_PROCESS);
  const forbid = writer.ret(forbidden);
  const bodies = policy
    .flatMap((rule) => {
      const number = numbers.get(rule.syscall);
      return number === undefined ? [] : [{ number, body: compileRule(writer, rule, forbidden) }];
    })
    .sort((a, b) => a.number - b.number);
  compileSearch(writer, bodies, forbid);
  const checked = writer.load(SECCOMP_DATA_NR);
  writer.branch(BPF_JMP_JEQ_K, AUDIT_ARCH[arch], checked, kill);
  writer.load(SECCOMP_DATA_ARCH);
  const program = writer.finish();
  const length = program.length / BPF_INSTRUCTION_SIZE;
  if (length > BPF_MAXINSNS) {
    throw new PolicyError(
      `the policy makes ${length} instructions, and the kernel takes ${BPF_MAXINSNS}: write fewer conditions`,
    );
  }
  return program;
}

/** Finds the call's number, in A, among the sorted ones: a balanced tree, so that no call pays for its place in the file. */
function compileSearch(
  writer: BpfWriter,
  bodies: readonly { readonly number: number; readonly body: BpfLabel }[],
  missing: BpfLabel,
): BpfLabel {
  const middle = bodies.length >> 1;
  const entry = bodies[middle];
  if (entry === undefined) return writer.jump(missing);
  if (bodies.length === 1) return writer.branch(BPF_JMP_JEQ_K, entry.number, entry.body, missing);
  const right = compileSearch(writer, bodies.slice(middle), missing);
  const left = compileSearch(writer, bodies.slice(0, middle), missing);
  return writer.branch(BPF_JMP_JGE_K, entry.number, right, left);
}

function compileRule(writer: BpfWriter, { any, otherwise }: Rule, forbidden: number): BpfLabel {
  let next = writer.ret(returnValue(otherwise, forbidden));
  if (any.length === 0) return next;
  const allow = writer.ret(SECCOMP_RET_ALLOW);
  for (const all of any.toReversed()) {
    const ifFalse = next;
    next = all.reduceRight((ifTrue, comparison) => compileComparison(writer, comparison, { ifTrue, ifFalse }), allow);
  }
  return next;
}

function returnValue(verdict: Verdict, forbidden: number): number {
  switch (verdict.kind) {
    case 'allow':
      return SECCOMP_RET_ALLOW;
    case 'forbid':
      return forbidden;
    case 'error':
      return SECCOMP_RET_ERRNO | verdict.errno;
  }
}

/** A comparison of 64 bits by halves, for BPF has 32. */
function compileComparison(writer: BpfWriter, { argument, operator, value }: Comparison, ways: Ways): BpfLabel {
  const { ifTrue, ifFalse } = ways;
  switch (operator) {
    case '==':
      return compileEqual(writer, argument, value, ways);
    case '!=':
      return compileEqual(writer, argument, value, { ifTrue: ifFalse, ifFalse: ifTrue });
    case '>':
      return compileOrder(writer, argument, BPF_JMP_JGT_K, value, ways);
    case '>=':
      return compileOrder(writer, argument, BPF_JMP_JGE_K, value, ways);
    case '<':
      return compileOrder(writer, argument, BPF_JMP_JGE_K, value, { ifTrue: ifFalse, ifFalse: ifTrue });
    case '<=':
      return compileOrder(writer, argument, BPF_JMP_JGT_K, value, { ifTrue: ifFalse, ifFalse: ifTrue });
    case '&':
      return compileBits(writer, argument, value, ways);
    case 'in':
      return compileBits(writer, argument, value ^ (2n ** 64n - 1n), { ifTrue: ifFalse, ifFalse: ifTrue });
  }
}

function compileEqual(writer: BpfWriter, argument: number, value: bigint, { ifTrue, ifFalse }: Ways): BpfLabel {
  writer.branch(BPF_JMP_JEQ_K, low(value), ifTrue, ifFalse);
  const lowHalf = writer.load(lowOffset(argument));
  writer.branch(BPF_JMP_JEQ_K, high(value), lowHalf, ifFalse);
  return writer.load(highOffset(argument));
}

/** `code`: how the low halves compare, greater or greater or equal. */
function compileOrder(writer: BpfWriter, argument: number, code: number, value: bigint, ways: Ways): BpfLabel {
  const { ifTrue, ifFalse } = ways;
  writer.branch(code, low(value), ifTrue, ifFalse);
  const lowHalf = writer.load(lowOffset(argument));
  const notGreater = writer.branch(BPF_JMP_JEQ_K, high(value), lowHalf, ifFalse);
  writer.branch(BPF_JMP_JGT_K, high(value), ifTrue, notGreater);
  return writer.load(highOffset(argument));
}

/** True if any of the bits is set. */
function compileBits(writer: BpfWriter, argument: number, bits: bigint, { ifTrue, ifFalse }: Ways): BpfLabel {
  writer.branch(BPF_JMP_JSET_K, low(bits), ifTrue, ifFalse);
  const lowHalf = writer.load(lowOffset(argument));
  writer.branch(BPF_JMP_JSET_K, high(bits), ifTrue, lowHalf);
  return writer.load(highOffset(argument));
}

const low = (value: bigint): number => Number(value & 0xffff_ffffn);
const high = (value: bigint): number => Number(value >> 32n);
const lowOffset = (argument: number): number => SECCOMP_DATA_ARGS + argument * 8;
const highOffset = (argument: number): number => lowOffset(argument) + 4;
