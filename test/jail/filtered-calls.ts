// Installs the filter that standard input has, makes the system calls there, and prints their results.
import { readFileSync } from 'node:fs';
import { libc } from '../../src/host/ffi.ts';
import { installFilter, setNoNewPrivileges } from '../../src/host/seccomp.ts';

const syscall = libc('long syscall(long n, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)');

const { program, calls } = JSON.parse(readFileSync(0, 'utf8')) as {
  readonly program: string;
  readonly calls: readonly { readonly number: number; readonly args: readonly string[] }[];
};
setNoNewPrivileges();
installFilter(Buffer.from(program, 'base64'));
const results = calls.map(({ number, args }) => {
  const [a = 0n, b = 0n, c = 0n, d = 0n, e = 0n, f = 0n] = args.map(BigInt);
  return syscall(number, a, b, c, d, e, f);
});
process.stdout.write(JSON.stringify(results));
