/**
 * Takes the kernel proper (an ELF) out of a bzImage on the host, which spares the guest the unpacking. What the unpacking
 * code in the bzImage does besides is lost with it, KASLR above all: such a kernel runs at the address it is linked for.
 */
import { constants, gunzipSync, zstdDecompressSync } from 'node:zlib';
import { KernelError } from './error.ts';
import { decompressLz4Legacy } from './lz4.ts';
import { decompressLzmaAlone } from './lzma.ts';
import { decompressXz } from './xz.ts';

/** Most bytes a payload may say it unpacks to. */
const MAX_UNPACKED = 1 << 30;

interface Compression {
  readonly name: string;
  readonly magic: readonly number[];
  /** Absent: known by name only. */
  readonly unpack?: (payload: Uint8Array, size: number) => Iterable<Uint8Array>;
}

type UnpackWhole = (payload: Uint8Array, size: number) => Uint8Array;

/** Unpacks all at once: one piece. */
const whole =
  (unpack: UnpackWhole) =>
  (payload: Uint8Array, size: number): Uint8Array[] => [unpack(payload, size)];

/** zlib's errors as KernelErrors. */
function byZlib(name: string, unpack: UnpackWhole) {
  return whole((payload, size) => {
    try {
      return unpack(payload, size);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new KernelError(
        'corrupt-payload',
        `the kernel's ${name} payload is damaged (${reason}): fetch or build the kernel again`,
      );
    }
  });
}

/** The size follows the compressed data in the payload's last four bytes. */
const SIZE_BYTES = 4;

const COMPRESSIONS: readonly Compression[] = [
  {
    name: 'gzip',
    magic: [0x1f, 0x8b],
    // gzip's own trailer is that size: it belongs to the data.
    unpack: byZlib('gzip', (payload, size) => gunzipSync(payload, { maxOutputLength: Math.max(size, 1) })),
  },
  {
    name: 'zstd',
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    unpack: byZlib('zstd', (payload, size) =>
      zstdDecompressSync(payload.subarray(0, payload.length - SIZE_BYTES), {
        maxOutputLength: Math.max(size, 1),
        // Linux's build uses level 22, whose window is 128 MiB.
        params: { [constants.ZSTD_d_windowLogMax]: 27 },
      }),
    ),
  },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], unpack: whole(decompressXz) },
  { name: 'LZMA', magic: [0x5d, 0x00, 0x00], unpack: whole(decompressLzmaAlone) },
  { name: 'LZ4', magic: [0x02, 0x21, 0x4c, 0x18], unpack: decompressLz4Legacy },
  {
    name: 'no compression',
    magic: [0x7f, 0x45, 0x4c, 0x46],
    unpack: whole((payload, size) => payload.subarray(0, size)),
  },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { name: 'LZO', magic: [0x89, 0x4c, 0x5a, 0x4f] },
];

export interface Unpacked {
  /**
   * The kernel's ELF, and behind it what the build appended (relocations): in pieces, each good until the next is asked for. Asking throws
   * KernelError (`corrupt-payload`) where the payload is damaged.
   */
  readonly pieces: IterableIterator<Uint8Array>;
  /** Bytes of all pieces together. */
  readonly size: number;
  /** Name of the compression. */
  readonly compression: string;
}

/** Lets pieces through that are `size` bytes together. */
function* checked(pieces: Iterable<Uint8Array>, size: number): Generator<Uint8Array> {
  const check = (total: number, right: boolean): void => {
    if (right) return;
    throw new KernelError(
      'corrupt-payload',
      `the kernel's payload unpacks to ${total} bytes instead of ${size}: fetch or build the kernel again`,
    );
  };
  let total = 0;
  for (const piece of pieces) {
    total += piece.length;
    check(total, total <= size);
    yield piece;
  }
  check(total, total === size);
}

/** All that was unpacked, in one piece. */
export function joinPieces({ pieces, size }: Unpacked): Uint8Array {
  const result = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    result.set(piece, at);
    at += piece.length;
  }
  return result;
}

/**
 * Unpacks a bzImage's payload (`payload_offset` and `payload_length` of the setup header). Throws KernelError:
 * `unsupported-compression` where the guest can still unpack it itself, `corrupt-payload` where it could not either.
 */
export function unpackPayload(payload: Uint8Array): Unpacked {
  const compression = COMPRESSIONS.find(({ magic }) => magic.every((byte, i) => payload[i] === byte));
  if (compression?.unpack === undefined || payload.length < SIZE_BYTES) {
    const name = compression?.name ?? 'an unknown compression';
    throw new KernelError(
      'unsupported-compression',
      `the kernel's payload is packed with ${name}, which the host does not unpack`,
    );
  }
  const end = payload.length - SIZE_BYTES;
  const size = new DataView(payload.buffer, payload.byteOffset + end, SIZE_BYTES).getUint32(0, true);
  if (size > MAX_UNPACKED) {
    throw new KernelError(
      'corrupt-payload',
      `the kernel's payload says it unpacks to ${size} bytes: fetch or build the kernel again`,
    );
  }
  return { pieces: checked(compression.unpack(payload, size), size), size, compression: compression.name };
}
