/**
 * Readers of files from outside get damaged ones. The variable SEED repeats a run, FUZZ sets the number of damaged files
 * for each format.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { buildBootImage } from '../../src/arch/x86_64/build.ts';
import { CommandLineError } from '../../src/arch/x86_64/cmdline.ts';
import { InitrdError } from '../../src/arch/x86_64/initrd.ts';
import { joinPieces, unpackPayload } from '../../src/arch/x86_64/kernel/decompress.ts';
import { KernelError } from '../../src/arch/x86_64/kernel/error.ts';
import { writeCpio } from '../../src/guest/cpio.ts';
import { ModuleFormatError, readModuleInfo } from '../../src/guest/modinfo.ts';
import { GuestMemory } from '../../src/hypervisor/guest-memory.ts';
import { bzImage, elfImage, gzipBzImage, START, withSize } from '../arch/x86_64/kernel/images.ts';
import { LZ4, LZMA, XZ_BLOCKS, XZ_X86 } from '../arch/x86_64/kernel/packed.ts';
import { sampleBytes } from '../arch/x86_64/kernel/sample.ts';
import { CpioError, readCpio } from '../guest/cpio-reader.ts';
import { elfModule } from '../guest/elf-module.ts';
import { randomSource } from '../guest/random.ts';
import { mutate } from './mutate.ts';

const COUNT = Number(process.env['FUZZ'] ?? 1500);
/** A file that takes longer to read hangs the start, milliseconds. */
const LONGEST = 2000;

interface Format {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Bytes at the start that hold most fields. */
  readonly headerSize: number;
  readonly read: (bytes: Uint8Array) => void;
  /** The only errors that damage may lead to. */
  readonly errors: readonly (new (
    ...args: never[]
  ) => Error)[];
}

/** How often damage was noticed, and how often not. */
function fuzz(t: TestContext, { bytes, headerSize, read, errors }: Format): { refused: number; read: number } {
  const random = randomSource(t);
  const result = { refused: 0, read: 0 };
  for (let i = 0; i < COUNT; i++) {
    const damaged = mutate(bytes, headerSize, random);
    const start = performance.now();
    try {
      read(damaged);
      result.read++;
    } catch (error) {
      assert.ok(
        errors.some((type) => error instanceof type),
        `file ${i}: ${error instanceof Error ? error.stack : error}`,
      );
      assert.match((error as Error).message, /^[^\n]+$/);
      result.refused++;
    }
    const taken = performance.now() - start;
    assert.ok(taken < LONGEST, `file ${i} took ${taken} ms`);
  }
  return result;
}

const MIB = 2 ** 20;
const RAM = 24 * MIB;
/** Bytes on both sides of RAM that must stay as they are. */
const GUARD = 64 * 1024;
const UNTOUCHED = 0xa5;
const around = new Uint8Array(RAM + 2 * GUARD).fill(UNTOUCHED);
const guards = [around.subarray(0, GUARD), around.subarray(GUARD + RAM)];
const memory = new GuestMemory([{ guestAddress: 0, bytes: around.subarray(GUARD, GUARD + RAM) }]);
const clean = new Uint8Array(GUARD).fill(UNTOUCHED);
const initrd = { size: clean.length, readInto: (target: Uint8Array): void => target.set(clean) };

function boot(kernel: Uint8Array): void {
  const params = ['quiet'];
  buildBootImage({ memory, kernel, kernelName: 'k', entry: 'auto', initrd, params, vcpuCount: 1 });
}

const code = new Uint8Array(4096).map((_, i) => i * 7);
const elf = elfImage(code, 0x8000);
const sample = sampleBytes(4000);
// A damaged setup header may leave no room for an initrd or a command line.
const KERNEL = [KernelError, InitrdError, CommandLineError];
const unpack = (bytes: Uint8Array): void => void joinPieces(unpackPayload(bytes));
const packed = (text: string): Uint8Array => withSize(Buffer.from(text, 'base64'), sample.length);

const formats: readonly Format[] = [
  { name: 'ELF', bytes: elf, headerSize: 176, read: boot, errors: KERNEL },
  { name: 'bzImage, gzip', bytes: gzipBzImage(elf), headerSize: 0x270, read: boot, errors: KERNEL },
  {
    name: 'bzImage, zstd',
    bytes: bzImage(withSize(zstdCompressSync(elf), elf.length)),
    headerSize: 0x270,
    read: boot,
    errors: KERNEL,
  },
  // The ELF inside: its checksum would hide changes.
  {
    name: 'bzImage, not packed',
    bytes: bzImage(withSize(elf, elf.length)),
    headerSize: 2048,
    read: boot,
    errors: KERNEL,
  },
  {
    name: 'bzImage for the guest to unpack',
    bytes: bzImage(new Uint8Array(600)),
    headerSize: 0x270,
    read: boot,
    errors: KERNEL,
  },
  { name: 'gzip', bytes: gzipSync(sample), headerSize: 16, read: unpack, errors: [KernelError] },
  {
    name: 'zstd',
    bytes: withSize(zstdCompressSync(sample), sample.length),
    headerSize: 16,
    read: unpack,
    errors: [KernelError],
  },
  { name: 'xz', bytes: packed(XZ_X86), headerSize: 64, read: unpack, errors: [KernelError] },
  { name: 'xz in blocks', bytes: packed(XZ_BLOCKS), headerSize: 64, read: unpack, errors: [KernelError] },
  { name: 'LZMA', bytes: packed(LZMA), headerSize: 32, read: unpack, errors: [KernelError] },
  { name: 'LZ4', bytes: packed(LZ4), headerSize: 32, read: unpack, errors: [KernelError] },
  {
    name: 'cpio',
    bytes: writeCpio([
      { type: 'directory', name: 'bin', mode: 0o755 },
      { type: 'file', name: 'bin/sh', mode: 0o755, data: Buffer.from(sample) },
      { type: 'symlink', name: 'init', target: 'bin/sh' },
      { type: 'character', name: 'console', mode: 0o600, major: 5, minor: 1 },
    ]),
    headerSize: 240,
    read: (bytes) => void readCpio(bytes),
    errors: [CpioError],
  },
  {
    name: 'kernel module',
    bytes: elfModule(['depends=virtio,virtio_ring', 'alias=pci:v00001AF4d*']),
    headerSize: 64,
    read: (bytes) => void readModuleInfo(bytes),
    errors: [ModuleFormatError],
  },
];

for (const format of formats) {
  test(`${format.name}, damaged`, (t) => {
    const { refused, read } = fuzz(t, format);
    t.diagnostic(`${refused} refused, ${read} read`);
    for (const guard of guards) assert.equal(Buffer.compare(guard, clean), 0, 'a write outside guest memory');
  });

  test(`${format.name}, undamaged`, () => {
    // What the damage is done to must be right, or nothing but the first check is tried.
    format.read(format.bytes);
  });
}

test('the address that images are made for lies in the memory they are read into', () => {
  assert.ok(START < RAM);
});
