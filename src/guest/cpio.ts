/**
 * Writer of cpio archives in the "newc" format, which the kernel unpacks as its initramfs
 * (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * The bytes depend on the entries alone: no clock, no host inode, no host owner goes in.
 */

/** One entry. `name` is relative, without `.` or `..`; `mode` holds permission bits only (0 to 0o7777). Owners are root. */
export type CpioEntry =
  | { readonly type: 'directory'; readonly name: string; readonly mode: number }
  | { readonly type: 'file'; readonly name: string; readonly mode: number; readonly data: Uint8Array }
  | { readonly type: 'symlink'; readonly name: string; readonly target: string }
  | {
      readonly type: 'character' | 'block';
      readonly name: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

/** File type bits of st_mode, as inode(7) numbers them. */
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;

const MAGIC = '070701';
export const HEADER_BYTES = 110;
export const TRAILER = 'TRAILER!!!';
/** Names and data begin at multiples of 4 bytes. */
const ALIGNMENT = 4;
/** cpio(1) pads archives to its 512-byte block. */
const BLOCK_BYTES = 512;
/** The kernel's PATH_MAX: a longer name or target, with its NUL, is skipped without a word. */
export const NAME_BYTES_MAX = 4096;
const FIELD_MAX = 0xffff_ffff;

/**
 * Writes an archive. Each entry's parent directory must come before it, because the kernel does not make parents.
 * @throws RangeError for a name, number or size the format or the kernel cannot take
 */
export function writeCpio(entries: Iterable<CpioEntry>): Buffer {
  const parts: Buffer[] = [];
  const types = new Map<string, CpioEntry['type']>();
  for (const entry of entries) {
    checkName(entry.name, types);
    types.set(entry.name, entry.type);
    pushEntry(parts, entry, types.size);
  }
  pushRecord(parts, { name: TRAILER, inode: 0, mode: 0, links: 1, major: 0, minor: 0, data: new Uint8Array() });
  const archive = Buffer.concat(parts);
  return Buffer.concat([archive, Buffer.alloc(padding(archive.length, BLOCK_BYTES))]);
}

/** The entries for every parent directory of `name` that is not in `have`, outermost first; adds them to `have`. */
export function missingParents(name: string, have: Set<string>): CpioEntry[] {
  const entries: CpioEntry[] = [];
  for (let at = name.indexOf('/'); at !== -1; at = name.indexOf('/', at + 1)) {
    const parent = name.slice(0, at);
    if (!have.has(parent)) {
      have.add(parent);
      entries.push({ type: 'directory', name: parent, mode: 0o755 });
    }
  }
  return entries;
}

function checkName(name: string, types: ReadonlyMap<string, CpioEntry['type']>): void {
  const parts = name.split('/');
  if (name === TRAILER || name.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new RangeError(`cpio: bad name '${name}'`);
  }
  if (types.has(name)) throw new RangeError(`cpio: '${name}' is there twice`);
  const parent = parts.slice(0, -1).join('/');
  if (parent !== '' && types.get(parent) !== 'directory') {
    throw new RangeError(`cpio: '${name}' comes before its directory`);
  }
}

function pushEntry(parts: Buffer[], entry: CpioEntry, inode: number): void {
  const record = { name: entry.name, inode, links: 1, major: 0, minor: 0, data: new Uint8Array() };
  switch (entry.type) {
    case 'directory':
      return pushRecord(parts, { ...record, mode: S_IFDIR | permissions(entry), links: 2 });
    case 'file':
      return pushRecord(parts, { ...record, mode: S_IFREG | permissions(entry), data: entry.data });
    case 'symlink': {
      const target = Buffer.from(entry.target);
      if (target.length === 0 || target.length >= NAME_BYTES_MAX || target.includes(0)) {
        throw new RangeError(`cpio: bad target of '${entry.name}'`);
      }
      return pushRecord(parts, { ...record, mode: S_IFLNK | 0o777, data: target });
    }
    case 'character':
    case 'block': {
      const type = entry.type === 'block' ? S_IFBLK : S_IFCHR;
      return pushRecord(parts, { ...record, mode: type | permissions(entry), major: entry.major, minor: entry.minor });
    }
  }
}

function permissions(entry: { readonly name: string; readonly mode: number }): number {
  if (!Number.isInteger(entry.mode) || entry.mode < 0 || entry.mode > 0o7777) {
    throw new RangeError(`cpio: bad mode of '${entry.name}'`);
  }
  return entry.mode;
}

interface Record {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly major: number;
  readonly minor: number;
  readonly data: Uint8Array;
}

function pushRecord(parts: Buffer[], record: Record): void {
  const name = Buffer.from(`${record.name}\0`);
  if (name.length > NAME_BYTES_MAX) throw new RangeError('cpio: a name is too long');
  // In the format's order; the zeros are owner, group, time of change, the archive's own device, and the checksum.
  const { inode, mode, links, data, major, minor } = record;
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = MAGIC + fields.map((value) => field(value, record.name)).join('');
  parts.push(Buffer.from(header, 'latin1'), name, Buffer.alloc(padding(HEADER_BYTES + name.length, ALIGNMENT)));
  parts.push(Buffer.from(data.buffer, data.byteOffset, data.length), Buffer.alloc(padding(data.length, ALIGNMENT)));
}

function field(value: number, name: string): string {
  if (!Number.isInteger(value) || value < 0 || value > FIELD_MAX) {
    throw new RangeError(`cpio: ${value} of '${name}' does not fit 32 bits`);
  }
  return value.toString(16).padStart(8, '0');
}

function padding(length: number, alignment: number): number {
  return (alignment - (length % alignment)) % alignment;
}
