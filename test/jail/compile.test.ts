// Policies as BPF: random ones against what they mean, in an interpreter and in the kernel.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  BPF_INSTRUCTION_SIZE,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
  SECCOMP_RET_USER_NOTIF,
} from '../../src/jail/bpf.ts';
import { compilePolicy } from '../../src/jail/compile.ts';
import { type Policy, parsePolicy, type Verdict } from '../../src/jail/policy.ts';
import { hostSyscallArch, SYSCALL_NUMBERS } from '../../src/jail/syscalls.ts';
import { randomSource } from '../guest/random.ts';
import { AUDIT_ARCH_X86_64, runFilter } from './bpf-interpreter.ts';
import { policyText, randomArguments, randomRule, randomValue, verdictOf } from './random-policy.ts';

const NUMBERS = SYSCALL_NUMBERS.x86_64;
const NAMES = [...NUMBERS.keys()];

function answerOf(verdict: Verdict, forbidden: number): number {
  switch (verdict.kind) {
    case 'allow':
      return SECCOMP_RET_ALLOW;
    case 'forbid':
      return forbidden;
    case 'error':
      return SECCOMP_RET_ERRNO | verdict.errno;
  }
}

test('random policies mean what they say', (t) => {
  const random = randomSource(t);
  for (let round = 0; round < 300; round++) {
    const names = new Set(Array.from({ length: random(40) }, () => NAMES[random(NAMES.length)] as string));
    const policy: Policy = [...names].map((name) => randomRule(name, random));
    assert.deepEqual(parsePolicy(policyText(policy), 'random'), policy);
    const program = compilePolicy(policy, 'x86_64', SECCOMP_RET_USER_NOTIF);
    for (let i = 0; i < 200; i++) {
      const rule = policy[random(policy.length + 1)];
      const name = rule?.syscall ?? (NAMES[random(NAMES.length)] as string);
      const args = randomArguments(rule, random);
      const answer = runFilter(program, { number: NUMBERS.get(name) as number, arch: AUDIT_ARCH_X86_64, args });
      assert.equal(answer, answerOf(verdictOf(policy, name, args), SECCOMP_RET_USER_NOTIF), `${name}(${args})`);
    }
  }
});

test('a call by other numbers ends the process: 32-bit, x32, and numbers that are not there', () => {
  const program = compilePolicy(parsePolicy('read: 1\nwrite: 1\n', 'test'), 'x86_64', SECCOMP_RET_USER_NOTIF);
  const args = [0n, 0n, 0n, 0n, 0n, 0n];
  const I386 = 0x4000_0003;
  const X32 = 0x4000_0000;
  assert.equal(runFilter(program, { number: 0, arch: I386, args }), SECCOMP_RET_KILL_PROCESS);
  for (const number of [X32, X32 + 1, 9999, 0xffff_ffff, 2]) {
    assert.equal(runFilter(program, { number, arch: AUDIT_ARCH_X86_64, args }), SECCOMP_RET_USER_NOTIF);
  }
});

test('long policies are compiled, and those that the kernel would not take are refused', () => {
  const line = (name: string, terms: number): string =>
    `${name}: ${Array.from({ length: terms }, (_, i) => `arg1 == ${i * 3}`).join(' || ')}; return EPERM\n`;
  const policy = parsePolicy(
    NAMES.slice(0, 20)
      .map((name) => line(name, 40))
      .join(''),
    'long',
  );
  const program = compilePolicy(policy, 'x86_64', SECCOMP_RET_KILL_PROCESS);
  assert.ok(program.length / BPF_INSTRUCTION_SIZE > 20 * 40);
  for (const name of NAMES.slice(0, 21)) {
    for (const value of [0n, 3n, 60n, 117n, 118n, 120n]) {
      const args = [0n, value, 0n, 0n, 0n, 0n];
      const answer = runFilter(program, { number: NUMBERS.get(name) as number, arch: AUDIT_ARCH_X86_64, args });
      assert.equal(answer, answerOf(verdictOf(policy, name, args), SECCOMP_RET_KILL_PROCESS));
    }
  }
  const tooLong = parsePolicy(
    NAMES.slice(0, 20)
      .map((name) => line(name, 80))
      .join(''),
    'long',
  );
  assert.throws(() => compilePolicy(tooLong, 'x86_64', SECCOMP_RET_KILL_PROCESS), {
    name: 'PolicyError',
    message: /^the policy makes \d+ instructions, and the kernel takes 4096: write fewer conditions$/,
  });
});

test('the kernel means the same', (t) => {
  const random = randomSource(t);
  const arch = hostSyscallArch() ?? 'x86_64';
  // Calls that take no arguments, so that whatever is given for them does no harm; the rest is allowed as the engine needs it.
  const probes = ['getuid', 'geteuid', 'getgid', 'getegid', 'getppid', 'getpgrp'];
  const rules = probes.map((name) => {
    const rule = randomRule(name, random);
    return rule.otherwise.kind === 'forbid' ? { ...rule, otherwise: { kind: 'error', errno: 99 } as const } : rule;
  });
  const rest = [...SYSCALL_NUMBERS[arch].keys()].filter((name) => !probes.includes(name));
  const policy = [...rules, ...rest.map((syscall) => ({ syscall, any: [], otherwise: { kind: 'allow' } as const }))];
  const calls = Array.from({ length: 2000 }, () => {
    const rule = rules[random(rules.length)];
    const args =
      rule?.any.length === 0 ? Array.from({ length: 6 }, () => randomValue(random)) : randomArguments(rule, random);
    return { name: rule?.syscall as string, args };
  });
  const input = JSON.stringify({
    program: Buffer.from(compilePolicy(policy, arch, SECCOMP_RET_KILL_PROCESS)).toString('base64'),
    calls: calls.map(({ name, args }) => ({ number: SYSCALL_NUMBERS[arch].get(name), args: args.map(String) })),
  });
  const script = fileURLToPath(new URL('filtered-calls.ts', import.meta.url));
  const { stdout, stderr, status } = spawnSync(process.execPath, [script], { input, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const results = JSON.parse(stdout) as number[];
  for (const [i, { name, args }] of calls.entries()) {
    const verdict = verdictOf(policy, name, args);
    const result = results[i] as number;
    if (verdict.kind === 'error' && verdict.errno > 0) assert.equal(result, -verdict.errno, `${name}(${args})`);
    // An error number of 0 is a call that is not made, and succeeds.
    else assert.ok(result >= 0, `${name}(${args}) gave ${result}`);
  }
});

test('the kernel ends a process at what it must not do', () => {
  const script = fileURLToPath(new URL('filtered-calls.ts', import.meta.url));
  const arch = hostSyscallArch() ?? 'x86_64';
  const rest = [...SYSCALL_NUMBERS[arch].keys()].filter((name) => name !== 'getppid');
  const program = compilePolicy(
    parsePolicy(rest.map((name) => `${name}: 1\n`).join(''), 'test'),
    arch,
    SECCOMP_RET_KILL_PROCESS,
  );
  const calls = [{ number: SYSCALL_NUMBERS[arch].get('getppid'), args: [] }];
  const input = JSON.stringify({ program: Buffer.from(program).toString('base64'), calls });
  assert.equal(spawnSync(process.execPath, [script], { input }).signal, 'SIGSYS');
});
