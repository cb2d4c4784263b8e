// Reading policies: what is understood, and one line for each mistake. FUZZ sets how many damaged ones there are.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SECCOMP_RET_KILL_PROCESS } from '../../src/jail/bpf.ts';
import { compilePolicy } from '../../src/jail/compile.ts';
import { PolicyError, parsePolicy } from '../../src/jail/policy.ts';
import { POLICY_CONSTANTS } from '../../src/jail/policy-constants.ts';
import { POLICY_FOLDER, readPolicy } from '../../src/jail/policy-files.ts';
import { SYSCALL_NUMBERS } from '../../src/jail/syscalls.ts';
import { randomSource } from '../guest/random.ts';

const DAMAGED = Number(process.env.FUZZ ?? 3000);

const parse = (text: string) => parsePolicy(text, 'a.policy');

test('every form of line is read', () => {
  const all = 2n ** 64n - 1n;
  const text = [
    '# nothing but a comment',
    'read: 1 # and one behind a line',
    '  write :allow',
    'ptrace: kill',
    'openat: return \\ # goes on',
    '  ENOENT',
    'uname: return 0',
    'mmap: arg2 in ~PROT_EXEC && arg3 == MAP_PRIVATE|MAP_ANONYMOUS || arg2 == PROT_NONE',
    'fcntl: arg1 == 0x406; return EPERM',
    'futex: arg1 & 010 || arg1 != ~~5 || arg2 >= 1 || arg2 <= 2 || arg3 < 3 || arg3 > 18446744073709551615',
  ].join('\n');
  const allow = { kind: 'allow' };
  const forbid = { kind: 'forbid' };
  assert.deepEqual(parse(text), [
    { syscall: 'read', any: [], otherwise: allow },
    { syscall: 'write', any: [], otherwise: allow },
    { syscall: 'ptrace', any: [], otherwise: forbid },
    { syscall: 'openat', any: [], otherwise: { kind: 'error', errno: 2 } },
    { syscall: 'uname', any: [], otherwise: { kind: 'error', errno: 0 } },
    {
      syscall: 'mmap',
      any: [
        [
          { argument: 2, operator: 'in', value: all ^ 4n },
          { argument: 3, operator: '==', value: 0x22n },
        ],
        [{ argument: 2, operator: '==', value: 0n }],
      ],
      otherwise: forbid,
    },
    {
      syscall: 'fcntl',
      any: [[{ argument: 1, operator: '==', value: 0x406n }]],
      otherwise: { kind: 'error', errno: 1 },
    },
    {
      syscall: 'futex',
      any: [
        [{ argument: 1, operator: '&', value: 8n }],
        [{ argument: 1, operator: '!=', value: 5n }],
        [{ argument: 2, operator: '>=', value: 1n }],
        [{ argument: 2, operator: '<=', value: 2n }],
        [{ argument: 3, operator: '<', value: 3n }],
        [{ argument: 3, operator: '>', value: all }],
      ],
      otherwise: forbid,
    },
  ]);
});

const MISTAKES: readonly (readonly [line: string, message: string])[] = [
  ['read', '"read" has no colon: write SYSCALL: FILTER'],
  ['raed: 1', '"raed" is no system call: write its name as the kernel does'],
  ['read:', 'the filter is missing: write 1, kill, return ERRNO, or a condition'],
  ['read: 2', 'at "2": a condition begins with arg0 to arg5'],
  ['read: 1 1', '"1" is too much: take it out'],
  ['read: arg6 == 1', 'at "arg6": a condition begins with arg0 to arg5'],
  ['read: arg0', 'at the end of the line: after arg0 one of == != <= >= < > & in is needed'],
  ['read: arg0 = 1', '"= 1" is not understood: take it out'],
  ['read: arg0 ==', 'at the end of the line: a constant is needed'],
  ['read: arg0 == && arg1 == 1', 'at "&&": a constant is needed'],
  ['read: arg0 == PROT_EXECUTE', '"PROT_EXECUTE" is no constant known here: write its number'],
  ['read: arg0 == 0x', '"0x" is no number'],
  ['read: arg0 == 09', '"09" is no number'],
  ['read: arg0 == 18446744073709551616', '"18446744073709551616" is too large: numbers have 64 bits'],
  ['read: arg0 == 1 &&', 'at the end of the line: a condition begins with arg0 to arg5'],
  ['read: arg0 == 1;', 'at the end of the line: only "return ERRNO" stands after a semicolon'],
  ['read: arg0 == 1; kill', 'at "kill": only "return ERRNO" stands after a semicolon'],
  ['read: return 4096', 'error number 4096 is too large: 4095 at most'],
  ['read: return EWHAT', '"EWHAT" is no constant known here: write its number'],
  ['@frequency ./x', '"@frequency ./x" is not known: only @include ./FILE and @include /FILE are'],
  ['write: 1\x1b[2J', '"?[2J" is not understood: take it out'],
];

test('mistakes are told in one line, with the place and the mend', () => {
  for (const [line, message] of MISTAKES) {
    assert.throws(() => parse(`# first\n${line}\n`), { name: 'PolicyError', message: `a.policy:2: ${message}` }, line);
  }
  assert.throws(() => parse('read: 1\nwrite: 1\nread: kill\n'), {
    message: 'a.policy:3: read has a line already, at a.policy:1: make one of both',
  });
});

test('a policy includes another, and no further', () => {
  const files: Record<string, string> = { './b': 'write: 1', './c': '@include ./b', './d': 'read: 1' };
  const include = (path: string) => ({ name: path, text: files[path] as string });
  assert.equal(parsePolicy('read: 1\n@include ./b', 'a', include).length, 2);
  assert.throws(() => parsePolicy('@include ./c', 'a', include), {
    message: './c:1: a file that is included includes another: write its lines here',
  });
  assert.throws(() => parsePolicy('read: 1\n@include ./d', 'a', include), {
    message: './d:1: read has a line already, at a:1: make one of both',
  });
});

test('what comes with Vivarium compiles, for each architecture', () => {
  const names = readdirSync(POLICY_FOLDER);
  assert.ok(names.length >= 11);
  for (const file of names) {
    const policy = readPolicy(file.replace(/\.policy$/, ''), POLICY_FOLDER);
    // Lines are read by people.
    for (const line of readFileSync(join(POLICY_FOLDER, file), 'utf8').split('\n')) assert.ok(line.length <= 140, line);
    for (const arch of ['x86_64', 'aarch64'] as const) {
      assert.ok(compilePolicy(policy, arch, SECCOMP_RET_KILL_PROCESS).length > 0);
    }
    for (const never of ['execve', 'execveat', 'ptrace', 'process_vm_writev', 'mount', 'clone', 'clone3', 'bpf']) {
      assert.ok(!policy.some(({ syscall }) => syscall === never), `${file}: ${never}`);
    }
    // A part that several include.
    if (!file.endsWith('_device.policy')) continue;
    // Without these the device could not even say that it is locked in.
    for (const needed of ['sendmsg', 'close', 'futex', 'exit_group', 'munmap']) {
      assert.ok(
        policy.some(({ syscall }) => syscall === needed),
        `${file}: ${needed}`,
      );
    }
  }
});

/** Values of macros, by the C preprocessor and compiler. */
function macros(headers: readonly string[], pattern: RegExp, flags: readonly string[] = []): Map<string, number> {
  const source = headers.map((header) => `#include <${header}>\n`).join('');
  const output = execFileSync('gcc', ['-E', '-dM', ...flags, '-'], { input: source, encoding: 'utf8' });
  return new Map(
    [...output.matchAll(/^#define (\w+) (\d+|0x[\da-fA-F]+)$/gm)].flatMap(([, name, value]) => {
      const match = pattern.exec(name as string);
      return match === null ? [] : [[match[1] as string, Number(value)] as const];
    }),
  );
}

test('numbers of system calls are those of the kernel headers', () => {
  const wanted = [
    '__ARCH_WANT_RENAMEAT',
    '__ARCH_WANT_NEW_STAT',
    '__ARCH_WANT_SET_GET_RLIMIT',
    '__ARCH_WANT_TIME32_SYSCALLS',
    '__ARCH_WANT_SYS_CLONE3',
    '__ARCH_WANT_MEMFD_SECRET',
  ].map((name) => `-D${name}`);
  const headers = {
    x86_64: macros(['asm/unistd_64.h'], /^__NR_(\w+)$/),
    aarch64: macros(['asm-generic/unistd.h'], /^__NR(?:_|3264_)(\w+)$/, ['-D__BITS_PER_LONG=64', ...wanted]),
  };
  for (const arch of ['x86_64', 'aarch64'] as const) {
    let same = 0;
    for (const [name, number] of headers[arch]) {
      const known = SYSCALL_NUMBERS[arch].get(name);
      if (known === undefined) continue;
      assert.equal(known, number, `${name} on ${arch}`);
      same++;
    }
    assert.ok(same > 300, `${same} numbers of ${arch} compared`);
  }
});

test('named constants are those of the C headers', () => {
  const names = [...POLICY_CONSTANTS.keys()];
  const headers = ['errno.h', 'sys/mman.h', 'fcntl.h', 'linux/falloc.h', 'sys/epoll.h', 'sys/socket.h'];
  const checks = names.map((name) => `_Static_assert((unsigned)${name} == ${POLICY_CONSTANTS.get(name)}u, "${name}");`);
  const source = ['#define _GNU_SOURCE', ...headers.map((header) => `#include <${header}>`), ...checks].join('\n');
  execFileSync('gcc', ['-fsyntax-only', '-x', 'c', '-'], { input: source, stdio: ['pipe', 'inherit', 'inherit'] });
});

test('damaged policies are refused in one line, or compiled', (t) => {
  const random = randomSource(t);
  const texts = readdirSync(POLICY_FOLDER).map((file) => readFileSync(join(POLICY_FOLDER, file), 'utf8'));
  const pieces = [
    'arg0',
    '==',
    '&&',
    '||',
    'in',
    '~',
    '|',
    ';',
    'return',
    ':',
    '\n',
    '@include ./x',
    '0x',
    '1',
    ' ',
    '\0',
    '(',
    'é',
    '99999999999999999999',
  ];
  let refused = 0;
  for (let round = 0; round < DAMAGED; round++) {
    let text = texts[random(texts.length)] as string;
    for (let change = 0; change <= random(4); change++) {
      const at = random(text.length + 1);
      text = text.slice(0, at) + (pieces[random(pieces.length)] as string) + text.slice(at + random(12));
    }
    try {
      compilePolicy(
        parsePolicy(text, 'fuzz', () => ({ name: 'x', text: '' })),
        'x86_64',
        SECCOMP_RET_KILL_PROCESS,
      );
    } catch (error) {
      assert.ok(error instanceof PolicyError, `${error}`);
      assert.match(error.message, /^[\x20-\x7e]+$/);
      refused++;
    }
  }
  assert.ok(refused > 100);
});
