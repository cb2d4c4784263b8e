import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ConfigError } from '../config.ts';

/** A name and where it begins, a linear address. */
export interface Symbol {
  readonly address: bigint;
  readonly name: string;
}

/** Symbols of the guest's kernel, to be asked for an address. */
export class SymbolTable {
  /** Sorted by address. */
  readonly #symbols: readonly Symbol[];

  constructor(symbols: readonly Symbol[]) {
    this.#symbols = symbols.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  }

  get size(): number {
    return this.#symbols.length;
  }

  /** The last symbol that begins at `address` or before. */
  at(address: bigint): Symbol | undefined {
    let [low, high] = [0, this.#symbols.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#symbols[middle] as Symbol).address <= address) low = middle + 1;
      else high = middle;
    }
    return this.#symbols[low - 1];
  }
}

/** System.map: an address, a letter and a name a line (nm's format). Only code is taken: t, T, w, W. */
function parseSystemMap(text: string): Symbol[] {
  return [...text.matchAll(/^([0-9a-f]{8,16}) [tTwW] (\S+)/gm)].map(([, address, name]) => {
    return { address: BigInt(`0x${address}`), name: name as string };
  });
}

const ELF64_LITTLE_ENDIAN = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
const SHT_SYMTAB = 2;
const SHDR_BYTES = 64;
const SYM_BYTES = 24;
const STT_FUNC = 2;
const STT_NOTYPE = 0;
const SHN_UNDEF = 0;
const SHN_LORESERVE = 0xff00;

/** The functions in an ELF's .symtab (System V ABI, chapter 4). RangeError for a file that is cut short. */
function parseElfSymbols(elf: Buffer): Symbol[] {
  const sections = Number(elf.readBigUInt64LE(0x28));
  const count = elf.readUInt16LE(0x3c);
  const symbols: Symbol[] = [];
  for (let i = 0; i < count; i++) {
    const header = sections + i * SHDR_BYTES;
    if (elf.readUInt32LE(header + 4) !== SHT_SYMTAB) continue;
    const strings = sections + elf.readUInt32LE(header + 40) * SHDR_BYTES;
    const names = Number(elf.readBigUInt64LE(strings + 24));
    const start = Number(elf.readBigUInt64LE(header + 24));
    const end = start + Number(elf.readBigUInt64LE(header + 32));
    for (let at = start; at + SYM_BYTES <= end; at += SYM_BYTES) {
      const type = elf.readUInt8(at + 4) & 15;
      const section = elf.readUInt16LE(at + 6);
      if ((type !== STT_FUNC && type !== STT_NOTYPE) || section === SHN_UNDEF || section >= SHN_LORESERVE) continue;
      const name = names + elf.readUInt32LE(at);
      const text = elf.toString('latin1', name, Math.max(name, elf.indexOf(0, name)));
      if (text !== '') symbols.push({ address: elf.readBigUInt64LE(at + 8), name: text });
    }
  }
  return symbols;
}

/** Symbols in a file: an ELF with a symbol table, or a System.map. Undefined where there are none. */
export function parseSymbols(file: Buffer): SymbolTable | undefined {
  let symbols: Symbol[] = [];
  if (!file.subarray(0, 6).equals(ELF64_LITTLE_ENDIAN)) symbols = parseSystemMap(file.toString('latin1'));
  else {
    try {
      symbols = parseElfSymbols(file);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return symbols.length > 0 ? new SymbolTable(symbols) : undefined;
}

/** Files beside a kernel that may have its symbols: System.map-VERSION for vmlinuz-VERSION, System.map, vmlinux. */
function candidates(kernel: string): string[] {
  const folder = dirname(kernel);
  const version = /^(?:vmlinu[xz]|bzImage)-(.+)$/.exec(basename(kernel))?.[1];
  const names = ['System.map', 'vmlinux'];
  if (version !== undefined) names.unshift(`System.map-${version}`, `vmlinux-${version}`);
  try {
    const there = new Set(readdirSync(folder));
    return [kernel, ...names.filter((name) => there.has(name)).map((name) => join(folder, name))];
  } catch {
    return [kernel];
  }
}

/**
 * The symbols in the file that the user named, else those of the kernel's file or beside it, else none.
 * @throws ConfigError when the file that the user named has none
 */
export function findSymbols(kernel: string, named: string | undefined): SymbolTable {
  if (named !== undefined) {
    const table = parseSymbols(read(named));
    if (!table) throw new ConfigError(`${named}: there are no symbols in it: give a System.map or a vmlinux`);
    return table;
  }
  for (const path of candidates(kernel)) {
    const table = parseSymbols(read(path));
    if (table) return table;
  }
  return new SymbolTable([]);
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new ConfigError(`${path}: the symbols cannot be read: ${(error as Error).message}`);
  }
}
