/**
 * LZ4 as Linux packs its kernel with it: the legacy frame (magic 0x184c2102), blocks of up to 8 MiB uncompressed,
 * each preceded by its compressed size in 32 bits. LZ4 frame format 1.6, "Legacy frame", and LZ4 block format.
 */
import { readFileSync } from 'node:fs';
import { wishHugePages } from '../../../host/memory.ts';
import { KernelError } from './error.ts';

/** Most bytes a block of the legacy frame unpacks to. */
const MAX_BLOCK = 8 << 20;
/** Where the output begins in the decoder's memory, and room behind input and output for its wide copies. */
const OUTPUT = 65536;
const SLACK = 64;

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

/** Memory with room for `bytes`, and the decoder of blocks in it. */
function makeDecoder(bytes: number): { memory: Uint8Array<ArrayBuffer>; decoder: Decoder } {
  const pages = Math.ceil(bytes / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const module = new WebAssembly.Module(readFileSync(new URL('../../../../build/lz4.wasm', import.meta.url)));
  // Tens of thousands of page faults else.
  wishHugePages(memory.buffer as ArrayBuffer, 0, pages * 65536);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return {
    memory: new Uint8Array(memory.buffer as ArrayBuffer),
    decoder: exports as unknown as Decoder,
  };
}

/**
 * Unpacks a legacy LZ4 frame. `input` starts with the magic number; bytes after the frame are not looked at once
 * `size` bytes are there. Throws KernelError when the result is not exactly `size` bytes.
 */
export function decompressLz4Legacy(input: Uint8Array, size: number): Uint8Array {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const start = OUTPUT + size + SLACK;
  const { memory, decoder } = makeDecoder(start + input.length + SLACK);
  memory.set(input, start);
  let ip = 4;
  let op = 0;
  while (op < size) {
    if (input.length - ip < 4) {
      throw corrupt('it ends early');
    }
    const length = view.getUint32(ip, true);
    ip += 4;
    if (length > input.length - ip) {
      throw corrupt('a block is longer than the payload');
    }
    const limit = Math.min(size, op + MAX_BLOCK);
    const end = start + ip + length;
    let to = OUTPUT + op;
    for (let from = start + ip; from < end; from = decoder.at.value) {
      to = decoder.decode_some(from, end, OUTPUT + op, to, OUTPUT + limit);
      if (to < 0) {
        throw corrupt(ERRORS[to] as string);
      }
    }
    if (to === OUTPUT + op) {
      throw corrupt('an empty block');
    }
    op = to - OUTPUT;
    ip += length;
  }
  return memory.subarray(OUTPUT, OUTPUT + size);
}
