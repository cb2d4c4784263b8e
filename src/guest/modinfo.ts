/**
 * Reader of a Linux kernel module's `.modinfo` section: "key=value" texts, each ended by a NUL, in a relocatable
 * 64-bit little-endian ELF file (System V ABI, chapter 4; Linux, include/linux/moduleparam.h).
 */

/** What modprobe(8) needs to know of a module. */
export interface ModuleInfo {
  /** Names of the modules that must be loaded before, with `_` for `-`. */
  readonly depends: readonly string[];
  /** Patterns of the device names it drives. */
  readonly aliases: readonly string[];
}

export class ModuleFormatError extends Error {
  override readonly name = 'ModuleFormatError';
}

const ELF64_LITTLE_ENDIAN = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
const EHDR_BYTES = 64;
const E_SHOFF = 0x28;
const E_SHENTSIZE = 0x3a;
const E_SHNUM = 0x3c;
const E_SHSTRNDX = 0x3e;
const SHDR_BYTES = 64;
const SH_NAME = 0x00;
const SH_TYPE = 0x04;
const SH_OFFSET = 0x18;
const SH_SIZE = 0x20;
const SHT_NOBITS = 8;

/** @throws ModuleFormatError where the bytes are no module, or one cut short */
export function readModuleInfo(module: Uint8Array): ModuleInfo {
  const depends: string[] = [];
  const aliases: string[] = [];
  for (const text of modinfoSection(module).toString('utf8').split('\0')) {
    const equals = text.indexOf('=');
    const value = text.slice(equals + 1);
    if (equals === -1 || value === '') continue;
    const key = text.slice(0, equals);
    if (key === 'depends') depends.push(...value.split(',').filter(Boolean).map(moduleName));
    if (key === 'alias') aliases.push(value);
  }
  return { depends, aliases };
}

/** The name that the kernel knows a module by: `-` and `_` are the same, and the kernel uses `_`. */
export function moduleName(fileName: string): string {
  return fileName.replaceAll('-', '_');
}

function modinfoSection(module: Uint8Array): Buffer {
  const elf = Buffer.from(module.buffer, module.byteOffset, module.length);
  if (elf.length < EHDR_BYTES || !elf.subarray(0, 6).equals(ELF64_LITTLE_ENDIAN)) {
    throw new ModuleFormatError('not a 64-bit little-endian ELF file');
  }
  if (elf.readUInt16LE(E_SHENTSIZE) !== SHDR_BYTES) throw new ModuleFormatError('section headers of a wrong size');
  const count = elf.readUInt16LE(E_SHNUM);
  const headers = slice(elf, elf.readBigUInt64LE(E_SHOFF), BigInt(count * SHDR_BYTES));
  const namesIndex = elf.readUInt16LE(E_SHSTRNDX);
  if (namesIndex >= count) throw new ModuleFormatError('no section names');
  const names = section(elf, headers, namesIndex);
  for (let index = 0; index < count; index++) {
    const nameAt = headers.readUInt32LE(index * SHDR_BYTES + SH_NAME);
    if (names.toString('latin1', nameAt, nameAt + 9) === '.modinfo\0') return section(elf, headers, index);
  }
  throw new ModuleFormatError('no .modinfo section');
}

function section(elf: Buffer, headers: Buffer, index: number): Buffer {
  const at = index * SHDR_BYTES;
  if (headers.readUInt32LE(at + SH_TYPE) === SHT_NOBITS) throw new ModuleFormatError('a section without bytes');
  return slice(elf, headers.readBigUInt64LE(at + SH_OFFSET), headers.readBigUInt64LE(at + SH_SIZE));
}

function slice(elf: Buffer, offset: bigint, size: bigint): Buffer {
  if (offset + size > BigInt(elf.length)) throw new ModuleFormatError('cut short');
  return elf.subarray(Number(offset), Number(offset + size));
}
