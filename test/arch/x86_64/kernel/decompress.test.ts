import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { joinPieces, unpackPayload } from '../../../../src/arch/x86_64/kernel/decompress.ts';
import { KernelError } from '../../../../src/arch/x86_64/kernel/error.ts';
import { LZ4, LZMA, XZ_BLOCKS, XZ_X86 } from './packed.ts';
import { sampleBytes } from './sample.ts';

const sample = sampleBytes(4000);

/** What Linux's build makes of packed bytes: the size behind them. */
function payload(packed: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(packed.length + 4);
  result.set(packed);
  new DataView(result.buffer).setUint32(packed.length, size, true);
  return result;
}

/** Unpacks all of it. */
const unpack = (payload: Uint8Array): Uint8Array => joinPieces(unpackPayload(payload));

const packed: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ['zstd', payload(zstdCompressSync(sample), sample.length)],
  ['xz', payload(Buffer.from(XZ_X86, 'base64'), sample.length)],
  ['xz', payload(Buffer.from(XZ_BLOCKS, 'base64'), sample.length)],
  ['LZMA', payload(Buffer.from(LZMA, 'base64'), sample.length)],
  ['LZ4', payload(Buffer.from(LZ4, 'base64'), sample.length)],
  ['gzip', gzipSync(sample)], // its trailer is the size
];

describe('unpackPayload', () => {
  for (const [name, bytes] of packed) {
    test(`${name} (${bytes.length} bytes) gives the bytes that were packed`, () => {
      const unpacked = unpackPayload(bytes);
      assert.equal(unpacked.compression, name);
      assert.deepEqual(Buffer.from(joinPieces(unpacked)), Buffer.from(sample));
    });

    test(`${name} (${bytes.length} bytes) cut short is an error`, () => {
      for (let length = 6; length < bytes.length - 4; length += 37) {
        assert.throws(() => unpack(payload(bytes.subarray(0, length), sample.length)), KernelError);
      }
    });
  }

  test('a payload that is not packed is taken as it is', () => {
    const elf = Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 1, 2, 3]);
    assert.deepEqual(unpack(payload(elf, elf.length)), elf);
  });

  test('bzip2, LZO and the unknown are refused by name', () => {
    const refused = (bytes: number[], text: RegExp) =>
      assert.throws(
        () => unpack(Uint8Array.from([...bytes, 0, 0, 0, 0, 0, 0, 0, 0])),
        (error) => error instanceof KernelError && error.kind === 'unsupported-compression' && text.test(error.message),
      );
    refused([0x42, 0x5a, 0x68], /bzip2/);
    refused([0x89, 0x4c, 0x5a, 0x4f], /LZO/);
    refused([1, 2, 3], /unknown compression/);
  });

  test('a wrong size behind the data is an error', () => {
    for (const [, bytes] of packed) {
      for (const size of [sample.length - 1, sample.length + 1, 0xffffffff]) {
        const wrong = Uint8Array.from(bytes);
        new DataView(wrong.buffer).setUint32(wrong.length - 4, size, true);
        assert.throws(() => unpack(wrong), KernelError);
      }
    }
  });

  test('any changed byte of an xz payload with its checksums is noticed', () => {
    for (const packed of [XZ_X86, XZ_BLOCKS]) {
      const bytes = payload(Buffer.from(packed, 'base64'), sample.length);
      for (let i = 6; i < bytes.length - 4; i++) {
        const damaged = Uint8Array.from(bytes);
        damaged[i] = (damaged[i] as number) ^ 0x10;
        assert.throws(() => unpack(damaged), KernelError, `byte ${i}`);
      }
    }
  });
});

describe('against the packers of this machine', () => {
  const big = sampleBytes(20_000_000);
  for (const [name, command, args] of [
    ['xz', 'xz', ['--check=crc32', '--x86', '--lzma2=dict=32MiB,preset=0', '-c']],
    ['LZ4', 'lz4', ['-l', '-c']],
    ['zstd', 'zstd', ['-3', '-c']],
  ] as const) {
    const available = spawnSync(command, ['--version']).error === undefined;
    test(`20 MB by ${command}`, { skip: !available && `${command} is not installed` }, () => {
      const { stdout } = spawnSync(command, args, { input: big, maxBuffer: 1 << 26 });
      const unpacked = unpackPayload(payload(stdout, big.length));
      assert.equal(unpacked.compression, name);
      assert.equal(Buffer.compare(joinPieces(unpacked), big), 0);
    });
  }
});
