/** Small kernel files made up for tests, right in every field that is looked at. */
import { gzipSync } from 'node:zlib';
import { HDR, HEADER_MAGIC } from '../../../../src/arch/x86_64/kernel/bzimage.ts';

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
/** Where the kernels are to be, guest-physical. */
export const START = 0x100_0000;
const PT_LOAD = 1;
const PT_NOTE = 4;

/** A vmlinux: one segment of `code`, with as many zeroes behind it up to `memorySize`, and a note with the PVH entry point. */
export function elfImage(code: Uint8Array, memorySize = code.length, pvh = true): Uint8Array {
  const note = Uint8Array.from([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 0x58, 0x65, 0x6e, 0, 0, 0, 0, 1]); // "Xen", START
  const count = pvh ? 2 : 1;
  const codeAt = EHDR_SIZE + count * PHDR_SIZE;
  const noteAt = codeAt + code.length;
  const bytes = new Uint8Array(noteAt + (pvh ? note.length : 0));
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(START), true);
  view.setBigUint64(32, BigInt(EHDR_SIZE), true);
  view.setUint16(52, EHDR_SIZE, true);
  view.setUint16(54, PHDR_SIZE, true);
  view.setUint16(56, count, true);
  const header = (
    index: number,
    type: number,
    offset: number,
    fileSize: number,
    size: number,
    address: number,
  ): void => {
    const at = EHDR_SIZE + index * PHDR_SIZE;
    view.setUint32(at, type, true);
    for (const [field, value] of [
      [8, offset],
      [16, address],
      [24, address],
      [32, fileSize],
      [40, size],
      [48, 4],
    ] as const) {
      view.setBigUint64(at + field, BigInt(value), true);
    }
  };
  header(0, PT_LOAD, codeAt, code.length, memorySize, START);
  bytes.set(code, codeAt);
  if (pvh) {
    header(1, PT_NOTE, noteAt, note.length, note.length, 0);
    bytes.set(note, noteAt);
  }
  return bytes;
}

/** A bzImage of protocol 2.15 around a payload as it is packed (with its size behind it where the format wants that). */
export function bzImage(payload: Uint8Array): Uint8Array {
  const setupSectors = 1;
  const start = (setupSectors + 1) * 512;
  const offset = 0x300; // behind the 64-bit entry point at 0x200
  const paragraphs = Math.ceil((offset + payload.length) / 16);
  const bytes = new Uint8Array(start + paragraphs * 16);
  const view = new DataView(bytes.buffer);
  bytes.set([0x4d, 0x5a]); // "MZ", as with an EFI stub
  bytes[HDR.SETUP_SECTS] = setupSectors;
  view.setUint32(HDR.SYSSIZE, paragraphs, true);
  view.setUint16(HDR.BOOT_FLAG, 0xaa55, true);
  bytes.set([0xeb, 0x6a], HDR.JUMP); // the header ends at 0x202 + 0x6a
  view.setUint32(HDR.HEADER, HEADER_MAGIC, true);
  view.setUint16(HDR.VERSION, 0x20f, true);
  bytes[HDR.LOADFLAGS] = 1; // LOADED_HIGH
  view.setUint32(HDR.CODE32_START, 0x100000, true);
  view.setUint32(HDR.INITRD_ADDR_MAX, 0x7fffffff, true);
  view.setUint32(HDR.KERNEL_ALIGNMENT, 0x200000, true);
  bytes[HDR.RELOCATABLE_KERNEL] = 1;
  view.setUint16(HDR.XLOADFLAGS, 1, true); // XLF_KERNEL_64
  view.setUint32(HDR.CMDLINE_SIZE, 2047, true);
  view.setUint32(HDR.PAYLOAD_OFFSET, offset, true);
  view.setUint32(HDR.PAYLOAD_LENGTH, payload.length, true);
  view.setBigUint64(HDR.PREF_ADDRESS, BigInt(START), true);
  view.setUint32(HDR.INIT_SIZE, paragraphs * 16, true);
  bytes.set(payload, start + offset);
  return bytes;
}

/** Packed bytes with the size behind them that Linux's build appends, where the format has none (gzip has). */
export function withSize(packed: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(packed.length + 4);
  result.set(packed);
  new DataView(result.buffer).setUint32(packed.length, size, true);
  return result;
}

/** A bzImage with an ELF packed by gzip. */
export function gzipBzImage(elf: Uint8Array): Uint8Array {
  return bzImage(gzipSync(elf));
}
