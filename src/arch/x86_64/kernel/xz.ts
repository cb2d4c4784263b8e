/**
 * The .xz container (The .xz File Format 1.1) as far as Linux's own decompressor knows it: LZMA2, with or without the
 * x86 branch filter, CRC32 or no check.
 */
import { crc32 } from 'node:zlib';
import { KernelError } from './error.ts';
import { corruptLzma, LzmaDecoder } from './lzma.ts';

const STREAM_HEADER_SIZE = 12;
const STREAM_FOOTER_SIZE = 12;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
const FILTER_X86 = 4;
const FILTER_LZMA2 = 0x21;

function unsupported(what: string): KernelError {
  return new KernelError(
    'unsupported-compression',
    `the kernel's xz payload uses ${what}, which Linux itself would not unpack`,
  );
}

class Reader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
  }

  need(length: number): void {
    if (length > this.bytes.length - this.at) {
      throw corruptLzma('it ends early');
    }
  }

  u8(): number {
    this.need(1);
    return this.bytes[this.at++] as number;
  }

  u16be(): number {
    this.need(2);
    this.at += 2;
    return this.view.getUint16(this.at - 2, false);
  }

  u32(): number {
    this.need(4);
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  /** Skips zeroes up to a multiple of four bytes. */
  padding(): void {
    while (this.at % 4 !== 0) {
      if (this.u8() !== 0) {
        throw corruptLzma('bad padding');
      }
    }
  }

  /** Multibyte integer, section 1.2; sizes of kernels fit in 35 bits. */
  varint(): number {
    let value = 0;
    for (let i = 0; i < 5; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) {
        return value;
      }
    }
    throw corruptLzma('an integer is too large');
  }
}

/** Section 3.1. Returns whether the x86 filter comes after LZMA2. */
function readBlockHeader(reader: Reader): boolean {
  const start = reader.at;
  const size = (reader.u8() + 1) * 4;
  reader.at = start;
  reader.need(size);
  const end = start + size - 4;
  if (crc32(reader.bytes.subarray(start, end)) !== reader.view.getUint32(end, true)) {
    throw corruptLzma('wrong checksum of a block header');
  }
  reader.at = start + 1;
  const flags = reader.u8();
  if ((flags & 0x40) !== 0) {
    reader.varint();
  }
  if ((flags & 0x80) !== 0) {
    reader.varint();
  }
  const filters: number[] = [];
  for (let i = 0; i <= (flags & 3); i++) {
    const filter = reader.varint();
    const propertiesSize = reader.varint();
    if (filter === FILTER_X86 && propertiesSize !== 0) {
      throw unsupported('a branch filter with an offset');
    }
    reader.at += propertiesSize;
    filters.push(filter);
  }
  if (reader.at > end) {
    throw corruptLzma('a block header is too short');
  }
  reader.at = start + size;
  const last = filters.pop();
  if (last !== FILTER_LZMA2 || filters.length > 1 || (filters.length === 1 && filters[0] !== FILTER_X86)) {
    throw unsupported(`the filters ${[...filters, last].join(', ')}`);
  }
  return filters.length === 1;
}

/** LZMA2 chunks up to the end marker. */
function decodeLzma2(reader: Reader, decoder: LzmaDecoder, out: Uint8Array): void {
  for (let control = reader.u8(); control !== 0; control = reader.u8()) {
    if (control === 1 || control >= 0xe0) {
      decoder.resetDictionary();
    }
    if (control < 0x80) {
      if (control > 2) {
        throw corruptLzma('unknown chunk');
      }
      const length = reader.u16be() + 1;
      reader.need(length);
      if (length > out.length - decoder.outputPosition) {
        throw corruptLzma('it is longer than it says');
      }
      out.set(reader.bytes.subarray(reader.at, reader.at + length), decoder.outputPosition);
      decoder.outputPosition += length;
      reader.at += length;
      continue;
    }
    const unpacked = ((control & 0x1f) << 16) + reader.u16be() + 1;
    const packed = reader.u16be() + 1;
    if (control >= 0xc0) {
      decoder.setProperties(reader.u8());
    } else if (control >= 0xa0) {
      decoder.resetState();
    }
    reader.need(packed);
    if (unpacked > out.length - decoder.outputPosition) {
      throw corruptLzma('it is longer than it says');
    }
    decoder.inputPosition = reader.at;
    decoder.start();
    const endMarker = decoder.decode(decoder.outputPosition + unpacked);
    if (endMarker || decoder.inputPosition !== reader.at + packed || !decoder.finished) {
      throw corruptLzma('a chunk does not end where it says');
    }
    reader.at += packed;
  }
}

/** For the three bits that say which of the last three bytes were opcodes: distance to the newest of them. */
const NEWEST_OPCODE = [0, 1, 2, 2, 3, 3, 3, 3];
/** Masks with which an operand may still be converted. */
const CONVERTIBLE = [true, true, true, false, true, false, false, false];

/** Undoes the x86 branch filter: operands of CALL and JMP become relative again. */
function decodeX86Branches(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isSignByte = (byte: number) => byte === 0 || byte === 0xff;
  let mask = 0;
  let previous = -1;
  for (let i = 0; i < bytes.length - 4; i++) {
    if (((bytes[i] as number) & 0xfe) !== 0xe8) {
      continue;
    }
    const distance = i - previous;
    previous = i;
    mask = distance > 3 ? 0 : (mask << (distance - 1)) & 7;
    if (mask !== 0) {
      const byte = bytes[i + 4 - (NEWEST_OPCODE[mask] as number)] as number;
      if (CONVERTIBLE[mask] === false || isSignByte(byte)) {
        mask = (mask << 1) | 1;
        continue;
      }
    }
    if (!isSignByte(bytes[i + 4] as number)) {
      mask = (mask << 1) | 1;
      continue;
    }
    let operand = view.getUint32(i + 1, true);
    for (;;) {
      const target = (operand - (i + 5)) >>> 0;
      const shift = (NEWEST_OPCODE[mask] as number) * 8;
      if (mask === 0 || !isSignByte((target >>> (24 - shift)) & 0xff)) {
        operand = target;
        break;
      }
      operand = (target ^ (2 ** (32 - shift) - 1)) >>> 0;
    }
    // Bit 24 is the sign of the 25-bit operand.
    view.setInt32(i + 1, (operand << 7) >> 7, true);
    i += 4;
  }
}

/** What the index says of each block, section 4.3. */
interface BlockSizes {
  /** Header, data and check, without the padding; bytes. */
  readonly unpadded: number;
  readonly uncompressed: number;
}

/** Index and stream footer, sections 4 and 2.1.2: they end the stream, and say again what came before. */
function checkEnd(reader: Reader, blocks: readonly BlockSizes[], flags: Uint8Array): void {
  const start = reader.at;
  if (reader.u8() !== 0) {
    throw corruptLzma('it is longer than it says');
  }
  if (reader.varint() !== blocks.length) {
    throw corruptLzma('the index does not match the blocks');
  }
  for (const { unpadded, uncompressed } of blocks) {
    if (reader.varint() !== unpadded || reader.varint() !== uncompressed) {
      throw corruptLzma('the index does not match the blocks');
    }
  }
  reader.padding();
  const end = reader.at;
  reader.need(4 + STREAM_FOOTER_SIZE);
  if (reader.u32() !== crc32(reader.bytes.subarray(start, end))) {
    throw corruptLzma('wrong checksum of the index');
  }
  const footer = reader.at;
  const checksum = reader.u32();
  if (checksum !== crc32(reader.bytes.subarray(footer + 4, footer + 10)) || (reader.u32() + 1) * 4 !== footer - start) {
    throw corruptLzma('a bad stream footer');
  }
  const rest = reader.bytes.subarray(reader.at, footer + STREAM_FOOTER_SIZE);
  if (rest[0] !== flags[0] || rest[1] !== flags[1] || rest[2] !== 0x59 || rest[3] !== 0x5a) {
    throw corruptLzma('a bad stream footer');
  }
}

/** Unpacks an .xz stream of `size` bytes when unpacked; bytes after it are ignored. Throws KernelError. */
export function decompressXz(input: Uint8Array, size: number): Uint8Array {
  const reader = new Reader(input, 0);
  reader.need(STREAM_HEADER_SIZE);
  const flags = input.subarray(6, 8);
  if (crc32(flags) !== reader.view.getUint32(8, true) || flags[0] !== 0) {
    throw corruptLzma('a bad stream header');
  }
  const check = flags[1] as number;
  if (check !== CHECK_NONE && check !== CHECK_CRC32) {
    throw unsupported(`integrity check ${check}`);
  }
  reader.at = STREAM_HEADER_SIZE;
  const out = new Uint8Array(size);
  const decoder = new LzmaDecoder(input, out);
  const blocks: BlockSizes[] = [];
  while (decoder.outputPosition < size) {
    reader.need(1);
    if (input[reader.at] === 0) {
      throw corruptLzma('it is shorter than it says'); // the index: no more blocks
    }
    const headerStart = reader.at;
    const blockStart = decoder.outputPosition;
    const x86 = readBlockHeader(reader);
    decoder.resetDictionary();
    decodeLzma2(reader, decoder, out);
    const block = out.subarray(blockStart, decoder.outputPosition);
    if (x86) {
      decodeX86Branches(block);
    }
    const unpadded = reader.at - headerStart + (check === CHECK_CRC32 ? 4 : 0);
    blocks.push({ unpadded, uncompressed: block.length });
    reader.padding();
    if (check === CHECK_CRC32 && reader.u32() !== crc32(block)) {
      throw corruptLzma('wrong checksum');
    }
  }
  checkEnd(reader, blocks, flags);
  return out;
}
