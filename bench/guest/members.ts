// The set: what runs inside the guest, one after the other. Each member takes 0.3 to 2 s on QEMU's translator.

export interface Member {
  readonly name: string;
  /** What it stands for in the table. */
  readonly what: string;
  /** Arguments are separated by single spaces. */
  readonly command: string;
}

const TEXT = '/bench/text';
/** The text six times, and its first part. */
const LARGE = '/bench/large';
const PART = '/bench/part';

export const MEMBERS: readonly Member[] = [
  { name: 'sieve', what: 'integer: bytes in a table', command: 'integer sieve' },
  { name: 'queens', what: 'integer: recursion, bits', command: 'integer queens' },
  { name: 'divide', what: 'integer: 64-bit division', command: 'integer divide' },
  { name: 'mix', what: 'integer: multiply and rotate', command: 'integer mix' },
  { name: 'subsequence', what: 'integer: tables, branches', command: 'integer subsequence' },
  { name: 'bodies', what: 'scalar doubles', command: 'float bodies' },
  { name: 'mandelbrot', what: 'scalar doubles', command: 'float mandelbrot' },
  { name: 'single', what: 'scalar floats', command: 'float single' },
  { name: 'matrix', what: 'packed doubles', command: 'float matrix' },
  { name: 'vector', what: 'packed floats', command: 'float vector' },
  { name: 'extended', what: 'x87', command: 'float extended' },
  { name: 'sequential', what: 'memory in order', command: 'memory sequential' },
  { name: 'random', what: 'memory anywhere', command: 'memory random' },
  { name: 'copy', what: 'memcpy, memmove', command: 'memory copy' },
  { name: 'faults', what: 'page faults', command: 'memory faults' },
  { name: 'calls', what: 'system calls', command: 'process calls' },
  { name: 'files', what: 'files in tmpfs', command: 'process files' },
  { name: 'forks', what: 'fork, copy on write', command: 'process forks' },
  { name: 'execs', what: 'exec of /bin/true', command: 'process execs' },
  { name: 'pipes', what: 'switches through pipes', command: 'process pipes' },
  { name: 'yields', what: 'switches by sched_yield', command: 'process yields' },
  { name: 'gzip', what: 'gzip', command: `gzip -nc ${TEXT}` },
  { name: 'gunzip', what: 'gzip -d', command: `gzip -dc ${TEXT}.gz ${TEXT}.gz ${TEXT}.gz ${TEXT}.gz` },
  { name: 'zstd', what: 'zstd -6', command: `zstd -6 -c --single-thread ${TEXT}` },
  { name: 'xz', what: 'xz -d', command: `xz -dc ${TEXT}.xz ${TEXT}.xz ${TEXT}.xz` },
  { name: 'sha256sum', what: 'sha256sum', command: `sha256sum ${LARGE} ${LARGE}` },
  { name: 'md5sum', what: 'md5sum', command: `md5sum ${LARGE} ${LARGE} ${LARGE} ${LARGE} ${LARGE}` },
  {
    name: 'aes',
    what: 'openssl, AES-256 in CMAC',
    command: `openssl mac -cipher AES-256-CBC -macopt hexkey:${'2b'.repeat(32)} -in ${LARGE} CMAC`,
  },
  { name: 'sort', what: 'sort by the second word', command: `sort -k2 ${TEXT} ${TEXT}` },
  {
    name: 'grep',
    what: 'grep -E, with alternatives',
    command: `grep -cE (mon|sta)[a-f]*(ing|um).*th|zz(re|vi)+o ${LARGE} ${LARGE} ${LARGE}`,
  },
  { name: 'expressions', what: 'perl, regular expressions', command: `perl /bench/expressions.pl ${PART}` },
  { name: 'words', what: 'perl, hashes', command: `perl /bench/words.pl ${PART}` },
  { name: 'lua', what: 'lua', command: 'lua5.4 /bench/tables.lua' },
  { name: 'python', what: 'python', command: 'python3.11 -S /bench/objects.py' },
  { name: 'shell', what: 'dash', command: 'dash /bench/loop.sh' },
  { name: 'tcc', what: 'tcc', command: 'dash /bench/compile.sh' },
  {
    name: 'cc1',
    what: "gcc's compiler, -O1",
    command: '/usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -fpreprocessed -O1 -o - /bench/source.c',
  },
];
