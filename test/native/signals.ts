import { type Assembler, absolute, at } from '../asm/assembler.ts';
import * as L from './layout.ts';

/** Linux x86-64: signals that an instruction's exceptions become. */
const SIGILL = 4;
const SIGTRAP = 5;
const SIGBUS = 7;
const SIGFPE = 8;
const SIGSEGV = 11;
const SIGNALS = [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV];

const SYS_RT_SIGACTION = 13;
const SYS_RT_SIGPROCMASK = 14;
const SYS_RT_SIGRETURN = 15;
const SYS_SIGALTSTACK = 131;
const SIG_SETMASK = 2;
const SIGSET_SIZE = 8;
/** The stack is not looked for where RSP points to: a case's may point into it. */
const SS_AUTODISARM = 1n << 31n;
const SA_SIGINFO = 0x4;
const SA_RESTORER = 0x04000000;
const SA_ONSTACK = 0x08000000;
const SA_NODEFER = 0x40000000;

/** Offsets in struct ucontext (asm/ucontext.h, asm/sigcontext.h). */
const UC_RSP = 160;
const UC_RIP = 168;
const UC_EFLAGS = 176;
const UC_ERR = 192;
const UC_TRAPNO = 200;
const UC_CR2 = 216;
const PAGE_FAULT = 14;
const RFLAGS_TF = 0x100;

function sigaction(a: Assembler, signal: number, action: number, old: number): void {
  a.mov('edi', signal);
  a.mov('esi', action);
  a.mov('edx', old);
  a.mov('r10d', SIGSET_SIZE);
  a.mov('eax', SYS_RT_SIGACTION);
  a.syscall();
}

/**
 * `native_entry(case, count)`: the runner with the exceptions of this thread recorded in the cases.
 *
 * Handlers are the process's, so other threads may come to ours too; and V8 has a SIGSEGV handler of its own (bounds of
 * WebAssembly memories). Only this thread runs handlers on SIGNAL_STACK: every signal that arrives elsewhere, or while
 * no case is active, goes on to the handler that was there before. All other signals wait till the batch is done,
 * because a case's RSP may point anywhere.
 */
export function nativeEntry(a: Assembler): void {
  a.label('native_entry');
  a.push('rdi');
  a.push('rsi');
  a.mov('edi', SIG_SETMASK);
  a.mov('esi', L.S_BATCH_MASK);
  a.mov('edx', L.S_OLD_MASK);
  a.mov('r10d', SIGSET_SIZE);
  a.mov('eax', SYS_RT_SIGPROCMASK);
  a.syscall();
  a.mov('edi', L.S_ALTSTACK);
  a.mov('esi', L.S_OLD_ALTSTACK);
  a.mov('eax', SYS_SIGALTSTACK);
  a.syscall();
  for (const signal of SIGNALS) sigaction(a, signal, L.S_ACTION, L.S_OLD_ACTIONS + signal * 32);
  a.pop('rsi');
  a.pop('rdi');
  a.sub('rsp', 8);
  a.call('runner');
  a.add('rsp', 8);
  for (const signal of SIGNALS) sigaction(a, signal, L.S_OLD_ACTIONS + signal * 32, 0);
  a.mov('edi', L.S_OLD_ALTSTACK);
  a.mov('esi', 0);
  a.mov('eax', SYS_SIGALTSTACK);
  a.syscall();
  a.mov('edi', SIG_SETMASK);
  a.mov('esi', L.S_OLD_MASK);
  a.mov('edx', 0);
  a.mov('r10d', SIGSET_SIZE);
  a.mov('eax', SYS_RT_SIGPROCMASK);
  a.syscall();
  a.ret();

  // Handler: EDI signal, RSI siginfo, RDX ucontext.
  a.label('signal_handler');
  a.mov('rax', 'rsp');
  a.sub('rax', L.SIGNAL_STACK);
  a.cmp('rax', L.SIGNAL_STACK_SIZE);
  a.jcc('a', 'not_ours');
  a.cmp(absolute(L.S_ACTIVE, 4), 0);
  a.jcc('e', 'not_ours');
  a.mov('rcx', absolute(L.S_CASE));
  a.mov('rax', at('rdx', UC_TRAPNO));
  a.mov(at('rcx', L.CASE_OUT_VECTOR), 'eax');
  a.cmp('eax', PAGE_FAULT);
  a.jcc('ne', 'no_cr2');
  a.mov('rax', at('rdx', UC_CR2));
  a.mov(at('rcx', L.CASE_OUT_CR2), 'rax');
  a.label('no_cr2');
  a.mov('rax', at('rdx', UC_ERR));
  a.mov(at('rcx', L.CASE_OUT_ERROR), 'rax');
  a.mov('rax', at('rdx', UC_RIP));
  a.mov(at('rcx', L.CASE_OUT_RIP), 'rax');
  // A paravirtual kernel cannot return to an RSP that is not canonical: the case's own comes back behind the return.
  a.mov('rax', at('rdx', UC_RSP));
  a.mov(absolute(L.S_RSP), 'rax');
  a.mov('eax', L.STACK_END);
  a.mov(at('rdx', UC_RSP), 'rax');
  a.mov('eax', a.address('exit_signal'));
  a.mov(at('rdx', UC_RIP), 'rax');
  a.and(at('rdx', UC_EFLAGS, 4), ~RFLAGS_TF);
  a.ret();

  a.label('exit_signal');
  a.mov('rsp', absolute(L.S_RSP));
  a.jmp('exit_fault');

  a.label('not_ours');
  a.mov('ecx', 'edi');
  a.shl('ecx', 5);
  a.mov('rax', at('rcx', L.S_OLD_ACTIONS));
  a.cmp('rax', 1);
  a.jcc('be', 'no_old_handler');
  a.jmpRegister('rax');
  // SIG_DFL or SIG_IGN: the instruction is tried again and ends the process.
  a.label('no_old_handler');
  a.mov('esi', L.S_DEFAULT_ACTION);
  a.mov('edx', 0);
  a.mov('r10d', SIGSET_SIZE);
  a.mov('eax', SYS_RT_SIGACTION);
  a.syscall();
  a.ret();

  a.label('signal_return');
  a.mov('eax', SYS_RT_SIGRETURN);
  a.syscall();
}

/** Fills the structures that native_entry gives to the kernel; `state` shows the bytes at layout.ts's STATE. */
export function prepareSignals(state: DataView, labels: ReadonlyMap<string, number>): void {
  const at64 = (address: number, value: bigint): void => state.setBigUint64(address - L.STATE, value, true);
  at64(L.S_BATCH_MASK, ~SIGNALS.reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n));
  at64(L.S_ALTSTACK, BigInt(L.SIGNAL_STACK));
  at64(L.S_ALTSTACK + 8, SS_AUTODISARM);
  at64(L.S_ALTSTACK + 16, BigInt(L.SIGNAL_STACK_SIZE));
  at64(L.S_ACTION, BigInt(labels.get('signal_handler') as number));
  at64(L.S_ACTION + 8, BigInt(SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER));
  at64(L.S_ACTION + 16, BigInt(labels.get('signal_return') as number));
}
