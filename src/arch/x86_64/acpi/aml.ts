/**
 * Builds AML, ACPI's byte code (ACPI 6.4, 20): each function gives the bytes of one term, made of the bytes of its parts.
 */

/** The bytes of a term. */
export type Aml = readonly number[];

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const QWORD_PREFIX = 0x0e;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const EXT_PREFIX = 0x5b;
const DEVICE_OP = 0x82;
const ROOT_CHAR = 0x5c;
const DUAL_NAME_PREFIX = 0x2e;
const MULTI_NAME_PREFIX = 0x2f;

/** `value` in `size` bytes, little-endian. */
function little(value: number | bigint, size: number): number[] {
  const wide = BigInt(value);
  return Array.from({ length: size }, (_, i) => Number((wide >> BigInt(8 * i)) & 0xffn));
}

/** PkgLength and the package's content (20.2.4): the length counts its own bytes. */
function packaged(content: Aml): number[] {
  const length = content.length;
  if (length + 1 < 0x40) {
    return [length + 1, ...content];
  }
  for (let extra = 1; extra <= 3; extra++) {
    const total = length + 1 + extra;
    if (total < 2 ** (4 + 8 * extra)) {
      return [(extra << 6) | (total & 0xf), ...little(total >> 4, extra), ...content];
    }
  }
  throw new RangeError(`an AML package of ${length} bytes is too long`);
}

function nameSegment(name: string): number[] {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) {
    throw new RangeError(`${name} is not an AML name`);
  }
  return [...name.padEnd(4, '_')].map((c) => c.charCodeAt(0));
}

/** A name string such as `\_SB.PCI0` (20.2.2). */
export function path(name: string): Aml {
  const root = name.startsWith('\\') ? [ROOT_CHAR] : [];
  const segments = name.slice(root.length).split('.');
  if (name.length === root.length) {
    return [...root, ZERO_OP]; // NullName
  }
  const bytes = segments.flatMap(nameSegment);
  if (segments.length === 1) {
    return [...root, ...bytes];
  }
  return segments.length === 2
    ? [...root, DUAL_NAME_PREFIX, ...bytes]
    : [...root, MULTI_NAME_PREFIX, segments.length, ...bytes];
}

/** The shortest form of an integer of up to 64 bits. */
export function integer(value: number): Aml {
  if (value <= 1) {
    return [value === 0 ? ZERO_OP : ONE_OP];
  }
  if (value < 0x100) {
    return [BYTE_PREFIX, value];
  }
  if (value < 0x10000) {
    return [WORD_PREFIX, ...little(value, 2)];
  }
  return value < 2 ** 32 ? [DWORD_PREFIX, ...little(value, 4)] : [QWORD_PREFIX, ...little(value, 8)];
}

/** An ASCII string. */
export function string(text: string): Aml {
  return [STRING_PREFIX, ...Buffer.from(text, 'ascii'), 0];
}

/** EISAID("PNP0A08"): three letters and four hexadecimal digits in 32 bits (19.3.4). */
export function eisaId(id: string): Aml {
  const letter = (i: number) => (id.charCodeAt(i) - 0x40) & 0x1f;
  const compressed = (letter(0) << 26) | (letter(1) << 21) | (letter(2) << 16) | Number.parseInt(id.slice(3), 16);
  // The bytes are in the order of the letters, and an integer is little-endian.
  return [DWORD_PREFIX, ...little(compressed >>> 0, 4).reverse()];
}

export function buffer(bytes: Aml): Aml {
  return [BUFFER_OP, ...packaged([...integer(bytes.length), ...bytes])];
}

export function pkg(elements: readonly Aml[]): Aml {
  return [PACKAGE_OP, ...packaged([elements.length, ...elements.flat()])];
}

/** Name (name, value). */
export function name(at: string, value: Aml): Aml {
  return [NAME_OP, ...path(at), ...value];
}

export function scope(at: string, terms: readonly Aml[]): Aml {
  return [SCOPE_OP, ...packaged([...path(at), ...terms.flat()])];
}

export function device(at: string, terms: readonly Aml[]): Aml {
  return [EXT_PREFIX, DEVICE_OP, ...packaged([...path(at), ...terms.flat()])];
}

// ---- Resource descriptors (6.4) ----------------------------------------------------------------------------------------

/** A buffer with the descriptors and an end tag: the value of _CRS. */
export function resources(descriptors: readonly Aml[]): Aml {
  // A checksum of 0 says that it is not computed.
  return buffer([...descriptors.flat(), 0x79, 0]);
}

/** I/O port descriptor, 16-bit decode: `length` ports at `port`. */
export function ioPorts(port: number, length: number): Aml {
  return [0x47, 0x01, ...little(port, 2), ...little(port, 2), 1, length];
}

/** IRQ descriptor for one ISA line: edge-triggered, active high. */
export function irq(line: number, sharing: 'exclusive' | 'shared'): Aml {
  return [0x23, ...little(1 << line, 2), sharing === 'shared' ? 0x11 : 0x01];
}

/** 32-bit fixed memory range, writable. */
export function memory32Fixed(start: number, size: number): Aml {
  return [0x86, ...little(9, 2), 1, ...little(start, 4), ...little(size, 4)];
}

/** Extended interrupt descriptor: the device consumes one GSI, edge-triggered, active high, not shared. */
export function edgeInterrupt(gsi: number): Aml {
  return [0x89, ...little(6, 2), 0x03, 1, ...little(gsi, 4)];
}

const MEMORY_RANGE = 0;
const IO_RANGE = 1;
const BUS_NUMBER_RANGE = 2;
/** Produced for devices behind the bridge; both ends fixed; positive decode. */
const PRODUCER_FIXED = 0x0c;

/** Word or double-word address space descriptor for [start, start + size). */
function addressSpace(tag: number, bytes: number, type: number, typeFlags: number, start: number, size: number): Aml {
  const fields = [0, start, start + size - 1, 0, size].flatMap((value) => little(value, bytes));
  return [tag, ...little(3 + fields.length, 2), type, PRODUCER_FIXED, typeFlags, ...fields];
}

/** Bus numbers 0 to count - 1, produced by a host bridge. */
export function busNumbers(count: number): Aml {
  return addressSpace(0x88, 2, BUS_NUMBER_RANGE, 0, 0, count);
}

/** Ports [start, start + size), produced by a host bridge; the entire range, ISA and not. */
export function ioWindow(start: number, size: number): Aml {
  return addressSpace(0x88, 2, IO_RANGE, 0x03, start, size);
}

/** Memory [start, start + size) below 4 GiB, produced by a host bridge: read-write, not cacheable. */
export function memoryWindow(start: number, size: number): Aml {
  return addressSpace(0x87, 4, MEMORY_RANGE, 0x01, start, size);
}
