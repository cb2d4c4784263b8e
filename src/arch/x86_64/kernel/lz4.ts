/**
 * LZ4 as Linux packs its kernel with it: the legacy frame (magic 0x184c2102), blocks of up to 8 MiB uncompressed,
 * each preceded by its compressed size in 32 bits. LZ4 frame format 1.6, "Legacy frame", and LZ4 block format.
 */
import { readFileSync } from 'node:fs';
import { advise, wishHugePages } from '../../../host/memory.ts';
import { KernelError } from './error.ts';

/** Most bytes a block of the legacy frame unpacks to, and most that it can be packed: LZ4's own bound, which Linux keeps to as well. */
const MAX_BLOCK = 8 << 20;
const MAX_PACKED = MAX_BLOCK + Math.floor(MAX_BLOCK / 255) + 16;
/** Room behind input and output for the decoder's wide copies. */
const SLACK = 64;
/** Where a block's output and its input begin in the decoder's memory. */
const OUTPUT = 65536;
const INPUT = OUTPUT + MAX_BLOCK + SLACK;

function corrupt(what: string): KernelError {
  return new KernelError(
    'corrupt-payload',
    `the kernel's LZ4 payload is damaged (${what}): fetch or build the kernel again`,
  );
}

/** What decode_some() returns instead of an address. */
const ERRORS: Record<number, string> = {
  [-1]: 'a length runs over the end of its block',
  [-2]: 'literals run over the end of their block',
  [-3]: 'a match runs over the end of its block',
  [-4]: 'a match points outside its block',
};

/** assembly/lz4-block.ts. */
interface Decoder {
  decode_some(from: number, end: number, start: number, to: number, limit: number): number;
  /** A WebAssembly global: where the input goes on. */
  readonly at: { readonly value: number };
}

/** The decoder, and its memory with room for one block. */
function makeDecoder(): { memory: Uint8Array<ArrayBuffer>; decoder: Decoder } {
  const pages = Math.ceil((INPUT + MAX_PACKED + SLACK) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const module = new WebAssembly.Module(readFileSync(new URL('../../../../build/lz4.wasm', import.meta.url)));
  // Thousands of page faults else.
  wishHugePages(memory.buffer as ArrayBuffer, 0, pages * 65536);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return {
    memory: new Uint8Array(memory.buffer as ArrayBuffer),
    decoder: exports as unknown as Decoder,
  };
}

/**
 * Unpacks a legacy LZ4 frame block by block: each piece is good until the next is asked for, since memory that has been used before costs
 * the host less than fresh. `input` starts with the magic number; bytes after the frame are not looked at once `size` bytes are
 * there. Throws KernelError when the pieces are not exactly `size` bytes.
 */
export function* decompressLz4Legacy(input: Uint8Array, size: number): Generator<Uint8Array> {
  const made = makeDecoder();
  try {
    yield* unpackBlocks(input, size, made);
  } finally {
    // Else it stays until this thread, which has little to do, collects its garbage.
    advise(made.memory.buffer, 0, made.memory.length, 'dontneed');
  }
}

function* unpackBlocks(
  input: Uint8Array,
  size: number,
  { memory, decoder }: ReturnType<typeof makeDecoder>,
): Generator<Uint8Array> {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let ip = 4;
  for (let left = size; left > 0; ) {
    if (input.length - ip < 4) {
      throw corrupt('it ends early');
    }
    const length = view.getUint32(ip, true);
    ip += 4;
    if (length > input.length - ip) {
      throw corrupt('a block is longer than the payload');
    }
    if (length > MAX_PACKED) {
      throw corrupt('a block is longer than any can be');
    }
    memory.set(input.subarray(ip, ip + length), INPUT);
    const limit = OUTPUT + Math.min(left, MAX_BLOCK);
    let to = OUTPUT;
    for (let from = INPUT; from < INPUT + length; from = decoder.at.value) {
      to = decoder.decode_some(from, INPUT + length, OUTPUT, to, limit);
      if (to < 0) {
        throw corrupt(ERRORS[to] as string);
      }
    }
    if (to === OUTPUT) {
      throw corrupt('an empty block');
    }
    yield memory.subarray(OUTPUT, to);
    left -= to - OUTPUT;
    ip += length;
  }
}
