import { type Assembler, absolute, at } from '../asm/assembler.ts';
import * as L from './layout.ts';

/** General registers in encoding order; RSP and RBX are handled apart. */
const NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];
const PLAIN = NAMES.filter((name) => name !== 'rsp' && name !== 'rbx');
const gpr = (base: number, name: string): number => base + NAMES.indexOf(name) * 8;

/** VINSERTF128 ymm, ymm, [rbx + disp32], 1 and VEXTRACTF128 [rbx + disp32], ymm, 1. */
function upperHalf(a: Assembler, opcode: number, number: number, disp: number): void {
  const vvvv = opcode === 0x18 ? number : 0;
  a.db(0xc4, (number > 7 ? 0x00 : 0x80) | 0x63, ((~vvvv & 15) << 3) | 0x05, opcode, 0x83 | ((number & 7) << 3));
  a.dd(disp);
  a.db(1);
}

/**
 * The loop over cases, as a function at the label `runner`: RDI = first case, RSI = how many (System V calling
 * convention). It loads a case's state, jumps to the case's code, and comes back at `exit_next` or `exit_taken` (jumps at
 * the end of the case's code) or `exit_fault` (a fault handler that has stored EXIT_FAULT and the fault in the case).
 * No register but RIP is known there, hence the absolute addresses; MOV changes no flags.
 */
export function runner(a: Assembler): void {
  a.label('runner');
  for (const name of ['rbx', 'rbp', 'r12', 'r13', 'r14', 'r15']) a.push(name);
  a.pushf();
  a.mov(absolute(L.S_OUTER_RSP), 'rsp');
  a.mov(absolute(L.S_CASE), 'rdi');
  a.mov(absolute(L.S_LEFT), 'rsi');
  a.stmxcsr(absolute(L.S_MXCSR));
  a.db(0xd9, 0x3c, 0x25); // FNSTCW [S_FCW]
  a.dd(L.S_FCW);

  a.label('next_case');
  a.cmp(absolute(L.S_LEFT, 8), 0);
  a.jcc('e', 'done');
  a.sub(absolute(L.S_LEFT, 8), 1);
  a.mov('rbx', absolute(L.S_CASE));
  a.test(at('rbx', L.CASE_USE, 4), L.USE_EDGE);
  a.jcc('e', 'no_edge_in');
  a.lea('rsi', at('rbx', L.CASE_EDGE));
  a.mov('edi', L.EDGE_WINDOW);
  a.mov('ecx', L.EDGE_WINDOW_SIZE);
  a.repMovsb();
  a.label('no_edge_in');
  a.test(at('rbx', L.CASE_USE, 4), L.USE_FX);
  a.jcc('e', 'no_fx_in');
  a.fxrstor64(at('rbx', L.CASE_FX));
  a.label('no_fx_in');
  a.test(at('rbx', L.CASE_USE, 4), L.USE_YMM);
  a.jcc('e', 'no_ymm_in');
  for (let i = 0; i < 16; i++) upperHalf(a, 0x18, i, L.CASE_YMM + i * 16);
  a.label('no_ymm_in');
  a.mov('rsp', L.STACK_END);
  a.mov('rax', at('rbx', L.CASE_CODE));
  a.mov(absolute(L.S_TARGET), 'rax');
  a.mov('rax', at('rbx', gpr(L.CASE_GPR, 'rbx')));
  a.mov(absolute(L.S_RBX), 'rax');
  a.push(at('rbx', L.CASE_RFLAGS));
  a.popf();
  for (const name of PLAIN) a.mov(name, at('rbx', gpr(L.CASE_GPR, name)));
  a.mov('rsp', at('rbx', gpr(L.CASE_GPR, 'rsp')));
  a.mov('rbx', absolute(L.S_RBX));
  a.mov(absolute(L.S_ACTIVE, 4), 1);
  a.jmp(absolute(L.S_TARGET));

  const leave = (kind: number): void => {
    a.mov(absolute(L.S_ACTIVE, 4), 0);
    a.mov(absolute(L.S_RBX), 'rbx');
    a.mov('rbx', absolute(L.S_CASE));
    a.mov(at('rbx', L.CASE_OUT, 4), kind);
    a.jmp('save');
  };
  a.label('exit_taken');
  leave(L.EXIT_TAKEN);
  a.label('exit_fault');
  leave(L.EXIT_FAULT);
  a.label('exit_next');
  leave(L.EXIT_NEXT);

  a.label('save');
  for (const name of PLAIN) a.mov(at('rbx', gpr(L.CASE_OUT_GPR, name)), name);
  a.mov(at('rbx', gpr(L.CASE_OUT_GPR, 'rsp')), 'rsp');
  a.mov('rsp', L.STACK_END);
  a.pushf();
  a.pop(at('rbx', L.CASE_OUT_RFLAGS));
  // AC, DF and NT of the case must not stay.
  a.push(0x2);
  a.popf();
  a.mov('rax', absolute(L.S_RBX));
  a.mov(at('rbx', gpr(L.CASE_OUT_GPR, 'rbx')), 'rax');
  a.test(at('rbx', L.CASE_USE, 4), L.USE_FX);
  a.jcc('e', 'no_fx_out');
  a.fxsave64(at('rbx', L.CASE_FX_OUT));
  a.label('no_fx_out');
  a.test(at('rbx', L.CASE_USE, 4), L.USE_YMM);
  a.jcc('e', 'no_ymm_out');
  for (let i = 0; i < 16; i++) upperHalf(a, 0x19, i, L.CASE_YMM_OUT + i * 16);
  a.db(0xc5, 0xf8, 0x77); // VZEROUPPER
  a.label('no_ymm_out');
  a.test(at('rbx', L.CASE_USE, 4), L.USE_EDGE);
  a.jcc('e', 'no_edge_out');
  a.mov('esi', L.EDGE_WINDOW);
  a.lea('rdi', at('rbx', L.CASE_EDGE_OUT));
  a.mov('ecx', L.EDGE_WINDOW_SIZE);
  a.repMovsb();
  a.label('no_edge_out');
  a.add(absolute(L.S_CASE, 8), L.CASE_SIZE);
  a.jmp('next_case');

  a.label('done');
  a.db(0xdb, 0xe3); // FNINIT
  a.db(0xd9, 0x2c, 0x25); // FLDCW [S_FCW]
  a.dd(L.S_FCW);
  a.ldmxcsr(absolute(L.S_MXCSR));
  a.mov('rsp', absolute(L.S_OUTER_RSP));
  a.popf();
  for (const name of ['r15', 'r14', 'r13', 'r12', 'rbp', 'rbx']) a.pop(name);
  a.ret();
}
