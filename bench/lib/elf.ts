// ELF64 files of one segment, made from machine code: a program for Linux that needs nothing, and a kernel that does nothing.

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
const PF_X = 1;
const PF_R = 4;
/** Xen's elfnote.h: the 32-bit entry point of the PVH boot protocol. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

interface Phdr {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** The headers, then `body`; the whole file is loaded at `base`, and `entry` counts from the beginning of the file. */
function elf(base: number, entry: number, phdrs: readonly Phdr[], body: Buffer): Buffer {
  const headers = Buffer.alloc(EHDR_SIZE + phdrs.length * PHDR_SIZE);
  headers.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  headers.writeUInt16LE(ET_EXEC, 16);
  headers.writeUInt16LE(EM_X86_64, 18);
  headers.writeUInt32LE(1, 20);
  headers.writeBigUInt64LE(BigInt(base + entry), 24);
  headers.writeBigUInt64LE(BigInt(EHDR_SIZE), 32);
  headers.writeUInt16LE(EHDR_SIZE, 52);
  headers.writeUInt16LE(PHDR_SIZE, 54);
  headers.writeUInt16LE(phdrs.length, 56);
  phdrs.forEach(({ type, offset, address, size }, index) => {
    const at = EHDR_SIZE + index * PHDR_SIZE;
    headers.writeUInt32LE(type, at);
    headers.writeUInt32LE(PF_R | PF_X, at + 4);
    headers.writeBigUInt64LE(BigInt(offset), at + 8);
    headers.writeBigUInt64LE(BigInt(address), at + 16);
    headers.writeBigUInt64LE(BigInt(address), at + 24);
    headers.writeBigUInt64LE(BigInt(size), at + 32);
    headers.writeBigUInt64LE(BigInt(size), at + 40);
    headers.writeBigUInt64LE(type === PT_LOAD ? 4096n : 4n, at + 48);
  });
  return Buffer.concat([headers, body]);
}

function imm32(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return [...bytes];
}

/** A static program for 64-bit Linux: writes `line` (ASCII) to standard output, then powers the machine off. */
export function markerProgram(line: string): Buffer {
  const base = 0x40_0000;
  const start = EHDR_SIZE + PHDR_SIZE;
  const text = Buffer.from(line, 'latin1');
  const code = (textAddress: number): Buffer =>
    Buffer.from([
      ...[0xb8, ...imm32(1)], //                mov eax, 1             write
      ...[0xbf, ...imm32(1)], //                mov edi, 1
      ...[0xbe, ...imm32(textAddress)], //      mov esi, text
      ...[0xba, ...imm32(text.length)], //      mov edx, length
      ...[0x0f, 0x05], //                       syscall
      ...[0xb8, ...imm32(169)], //              mov eax, 169           reboot
      ...[0xbf, ...imm32(0xfee1_dead)], //      mov edi, LINUX_REBOOT_MAGIC1
      ...[0xbe, ...imm32(672274793)], //        mov esi, LINUX_REBOOT_MAGIC2
      ...[0xba, ...imm32(0x4321_fedc)], //      mov edx, LINUX_REBOOT_CMD_POWER_OFF
      ...[0x0f, 0x05], //                       syscall
      ...[0xeb, 0xfe], //                       jmp $
    ]);
  const body = Buffer.concat([code(base + start + code(0).length), text]);
  return elf(base, start, [{ type: PT_LOAD, offset: 0, address: base, size: start + body.length }], body);
}

/** What the kernel below says: the end of a line is not kept back. */
export const FIRST_WORD = '!\n';

/** A PVH kernel whose first instructions write these bytes to the serial port, then `value` (0 to 255) to the debug exit's port, 0xf4. */
export function debugExitKernel(value: number): Buffer {
  return bareKernel([
    ...[0x66, 0xba, 0xf8, 0x03], //         mov dx, 0x3f8
    ...[...FIRST_WORD].flatMap((char) => [
      ...[0xb0, char.charCodeAt(0)], //     mov al, char
      ...[0xee], //                         out dx, al
    ]),
    ...[0xb0, value], //      mov al, value
    ...[0xe6, 0xf4], //       out 0xf4, al
    ...[0xf4], //             hlt
    ...[0xeb, 0xfd], //       jmp to the hlt
  ]);
}

/** A PVH kernel that is nothing but this 32-bit code, in the page at 1 MiB (or more of them). */
export function bareKernel(code: readonly number[]): Buffer {
  const base = 0x10_0000;
  const noteOffset = EHDR_SIZE + 2 * PHDR_SIZE;
  const note = Buffer.alloc(20);
  const entry = noteOffset + note.length;
  note.writeUInt32LE(4, 0);
  note.writeUInt32LE(4, 4);
  note.writeUInt32LE(XEN_ELFNOTE_PHYS32_ENTRY, 8);
  note.write('Xen\0', 12, 'latin1');
  note.writeUInt32LE(base + entry, 16);
  const body = Buffer.concat([note, Buffer.from(code)]);
  const phdrs = [
    { type: PT_LOAD, offset: 0, address: base, size: noteOffset + body.length },
    { type: PT_NOTE, offset: noteOffset, address: base + noteOffset, size: note.length },
  ];
  return elf(base, entry, phdrs, body);
}
