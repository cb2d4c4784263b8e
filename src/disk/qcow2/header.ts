/** The header of a qcow2 image: read and checked, and written for a new one. */
import { DiskError } from '../error.ts';
import {
  COMPRESSION_TYPE_FIELD,
  COMPRESSION_TYPES,
  type CompressionType,
  EXTENSION_BACKING_FORMAT,
  EXTENSION_END,
  EXTENSION_FEATURE_NAMES,
  FEATURE_NAME_ENTRY,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  MAGIC,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_OFFSET,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  roundUp,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from './format.ts';

/** An optional section after the header. */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Buffer;
}

export interface Header {
  readonly version: 2 | 3;
  /** Path of the backing file as the image has it. */
  readonly backingFile: string | undefined;
  /** Format of the backing file (`raw`, `qcow2`), where the image says it. */
  readonly backingFormat: string | undefined;
  readonly clusterBits: number;
  /** Virtual size in bytes. */
  readonly size: number;
  /** Entries of the active L1 table. */
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  /** Refcounts have 1 << refcountOrder bits. */
  readonly refcountOrder: number;
  readonly compression: CompressionType;
  readonly extensions: readonly HeaderExtension[];
}

/** Bytes at the start of a file that hold the whole header whatever the cluster size is, as far as Vivarium needs it. */
export const HEADER_READ = 2 ** MAX_CLUSTER_BITS;

const ENCRYPTION = ['none', 'AES', 'LUKS'];
const SUPPORTED = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION;

/** Names of this program's known features, by type (0 incompatible, 1 compatible, 2 autoclear) and bit. */
const FEATURE_NAMES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
];

/** Whether these first bytes of a file are those of a qcow2 image (of any version). */
export function isQcow2(start: Buffer): boolean {
  return start.length >= 8 && start.readUInt32BE(0) === MAGIC;
}

/**
 * Reads the header from the file's first bytes (HEADER_READ of them, or the whole file).
 * @throws DiskError that names `path`, when it is none, is damaged, or asks for what Vivarium does not have
 */
export function parseHeader(start: Buffer, path: string): Header {
  const fail = (what: string): never => {
    throw new DiskError(`${path}: ${what}`);
  };
  if (!isQcow2(start)) fail('it is no qcow2 image');
  const version = start.readUInt32BE(4);
  if (version !== 2 && version !== 3) return fail(`qcow2 version ${version} is not supported: only 2 and 3 are`);
  if (start.length < (version === 2 ? V2_HEADER_LENGTH : V3_HEADER_LENGTH)) fail('the qcow2 header is cut off');

  /** A field of 64 bits that must be an exact number. */
  const u64 = (offset: number, what: string): number => {
    const value = start.readBigUInt64BE(offset);
    return value > BigInt(MAX_OFFSET)
      ? fail(`the ${what} is 0x${value.toString(16)}: that is too large`)
      : Number(value);
  };
  const clusterBits = start.readUInt32BE(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    fail(`clusters of 2^${clusterBits} bytes are not supported: 2^${MIN_CLUSTER_BITS} to 2^${MAX_CLUSTER_BITS} are`);
  }
  const clusterSize = 2 ** clusterBits;
  const extended = version === 3;
  const headerLength = extended ? start.readUInt32BE(100) : V2_HEADER_LENGTH;
  if (extended && (headerLength < V3_HEADER_LENGTH || headerLength % 8 !== 0 || headerLength > clusterSize)) {
    fail(`the header's length is ${headerLength}`);
  }
  if (headerLength > start.length) fail('the qcow2 header is cut off');
  const extensions = parseExtensions(start.subarray(0, clusterSize), headerLength, fail);
  const incompatible = extended ? start.readBigUInt64BE(72) : 0n;
  refuseFeatures(incompatible, extensions, fail);

  const cryptMethod = start.readUInt32BE(32);
  if (cryptMethod !== 0)
    fail(`it is encrypted (${ENCRYPTION[cryptMethod] ?? `method ${cryptMethod}`}), which is not supported`);
  const compressionNumber =
    extended && headerLength > COMPRESSION_TYPE_FIELD ? start.readUInt8(COMPRESSION_TYPE_FIELD) : 0;
  const compression = COMPRESSION_TYPES[compressionNumber];
  if (compression === undefined) return fail(`compression type ${compressionNumber} is not supported`);
  if (((incompatible & INCOMPATIBLE_COMPRESSION) !== 0n) !== (compressionNumber !== 0)) {
    fail('the header contradicts itself about the compression type');
  }
  const refcountOrder = extended ? start.readUInt32BE(96) : 4;
  if (refcountOrder > MAX_REFCOUNT_ORDER) fail(`refcounts of 2^${refcountOrder} bits are not supported`);

  /** The offset of a table: at a cluster, after the header. */
  const table = (offset: number, what: string): number => {
    const value = u64(offset, `${what}'s offset`);
    return value % clusterSize !== 0 || value === 0 ? fail(`the ${what}'s offset is 0x${value.toString(16)}`) : value;
  };
  const size = u64(24, 'virtual size');
  const l1Size = start.readUInt32BE(36);
  if (l1Size * 8 > MAX_L1_BYTES) fail(`an L1 table of ${l1Size} entries is not supported`);
  if (l1Size < Math.ceil(size / (clusterSize * (clusterSize / 8))))
    fail('the L1 table is too small for the virtual size');
  const refcountTableClusters = start.readUInt32BE(56);
  if (refcountTableClusters === 0 || refcountTableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    fail(`a refcount table of ${refcountTableClusters} clusters is not supported`);
  }
  const snapshotCount = start.readUInt32BE(60);
  if (snapshotCount > MAX_SNAPSHOTS) fail(`${snapshotCount} snapshots are not supported: at most ${MAX_SNAPSHOTS} are`);
  const backingFile = parseBackingName(start, clusterSize, u64(8, "backing file name's offset"), fail);
  const backingFormat = extensions.find(({ type }) => type === EXTENSION_BACKING_FORMAT)?.data.toString('utf8');
  return {
    version,
    backingFile,
    backingFormat,
    clusterBits,
    size,
    l1Size,
    l1Offset: l1Size === 0 ? 0 : table(40, 'L1 table'),
    refcountTableOffset: table(48, 'refcount table'),
    refcountTableClusters,
    snapshotCount,
    snapshotsOffset: snapshotCount === 0 ? 0 : table(64, 'snapshot table'),
    incompatible,
    compatible: extended ? start.readBigUInt64BE(80) : 0n,
    autoclear: extended ? start.readBigUInt64BE(88) : 0n,
    refcountOrder,
    compression,
    extensions,
  };
}

function parseBackingName(
  start: Buffer,
  clusterSize: number,
  offset: number,
  fail: (what: string) => never,
): string | undefined {
  if (offset === 0) return undefined;
  const length = start.readUInt32BE(16);
  if (length > MAX_BACKING_NAME) fail(`the backing file's name has ${length} bytes`);
  if (offset + length > Math.min(clusterSize, start.length))
    fail("the backing file's name is outside the first cluster");
  const name = start.toString('utf8', offset, offset + length);
  if (name.includes('\0')) fail("the backing file's name holds a zero byte");
  return name === '' ? undefined : name;
}

function parseExtensions(cluster: Buffer, from: number, fail: (what: string) => never): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  // The name of the backing file may follow without an end mark.
  const nameOffset = cluster.readBigUInt64BE(8);
  const end = nameOffset === 0n || nameOffset > cluster.length ? cluster.length : Number(nameOffset);
  for (let at = from; at + 8 <= end; ) {
    const type = cluster.readUInt32BE(at);
    if (type === EXTENSION_END) break;
    const length = cluster.readUInt32BE(at + 4);
    if (length > end - at - 8) fail(`header extension 0x${type.toString(16)} is ${length} bytes long`);
    extensions.push({ type, data: Buffer.from(cluster.subarray(at + 8, at + 8 + length)) });
    at += 8 + roundUp(length, 8);
  }
  return extensions;
}

/** Refuses incompatible features, each by its name in the image's own table, else in this program's. */
function refuseFeatures(
  incompatible: bigint,
  extensions: readonly HeaderExtension[],
  fail: (what: string) => never,
): void {
  const unsupported = incompatible & ~SUPPORTED;
  if (unsupported === 0n) return;
  const table = extensions.find(({ type }) => type === EXTENSION_FEATURE_NAMES)?.data ?? Buffer.alloc(0);
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((unsupported & (1n << BigInt(bit))) === 0n) continue;
    const own = FEATURE_NAMES.find(([type, at]) => type === 0 && at === bit)?.[2];
    names.push(own ?? nameIn(table, bit) ?? `unknown feature (bit ${bit})`);
  }
  fail(`it needs what is not supported: ${names.join(', ')}`);
}

function nameIn(table: Buffer, bit: number): string | undefined {
  for (let at = 0; at + FEATURE_NAME_ENTRY <= table.length; at += FEATURE_NAME_ENTRY) {
    if (table[at] !== 0 || table[at + 1] !== bit) continue;
    const [name] = table.toString('utf8', at + 2, at + FEATURE_NAME_ENTRY).split('\0');
    if (name) return name;
  }
  return undefined;
}

/** The first cluster of an image. @throws DiskError if the backing file's name does not fit */
export function formatHeader(header: Omit<Header, 'extensions'>, path: string): Buffer {
  const cluster = Buffer.alloc(2 ** header.clusterBits);
  const { version } = header;
  cluster.writeUInt32BE(MAGIC, 0);
  cluster.writeUInt32BE(version, 4);
  cluster.writeUInt32BE(header.clusterBits, 20);
  cluster.writeBigUInt64BE(BigInt(header.size), 24);
  cluster.writeUInt32BE(header.l1Size, 36);
  cluster.writeBigUInt64BE(BigInt(header.l1Offset), 40);
  cluster.writeBigUInt64BE(BigInt(header.refcountTableOffset), 48);
  cluster.writeUInt32BE(header.refcountTableClusters, 56);
  cluster.writeUInt32BE(header.snapshotCount, 60);
  cluster.writeBigUInt64BE(BigInt(header.snapshotsOffset), 64);
  let end = V2_HEADER_LENGTH;
  if (version === 3) {
    const compression = COMPRESSION_TYPES.indexOf(header.compression);
    end = compression === 0 ? V3_HEADER_LENGTH : V3_HEADER_LENGTH + 8;
    cluster.writeBigUInt64BE(header.incompatible, 72);
    cluster.writeBigUInt64BE(header.compatible, 80);
    cluster.writeBigUInt64BE(header.autoclear, 88);
    cluster.writeUInt32BE(header.refcountOrder, 96);
    cluster.writeUInt32BE(end, 100);
    if (compression !== 0) cluster.writeUInt8(compression, COMPRESSION_TYPE_FIELD);
  }
  const name = Buffer.from(header.backingFile ?? '');
  const format = Buffer.from(header.backingFormat ?? '');
  const extensions: HeaderExtension[] = [];
  if (format.length > 0) extensions.push({ type: EXTENSION_BACKING_FORMAT, data: format });
  if (version === 3) extensions.push({ type: EXTENSION_FEATURE_NAMES, data: featureNameTable() });
  for (const { type, data } of extensions) {
    const next = end + 8 + roundUp(data.length, 8);
    // Names of features are a courtesy: small clusters may have no room for them.
    if (next + 8 + name.length > cluster.length && type === EXTENSION_FEATURE_NAMES) continue;
    if (next + 8 > cluster.length)
      throw new DiskError(`${path}: the header does not fit a cluster of ${cluster.length} bytes`);
    cluster.writeUInt32BE(type, end);
    cluster.writeUInt32BE(data.length, end + 4);
    data.copy(cluster, end + 8);
    end = next;
  }
  end += 8;
  if (name.length === 0) return cluster;
  if (name.length > MAX_BACKING_NAME)
    throw new DiskError(`${path}: the backing file's name is longer than ${MAX_BACKING_NAME} bytes`);
  if (end + name.length > cluster.length) {
    throw new DiskError(`${path}: the backing file's name does not fit the first cluster: use larger clusters`);
  }
  cluster.writeBigUInt64BE(BigInt(end), 8);
  cluster.writeUInt32BE(name.length, 16);
  name.copy(cluster, end);
  return cluster;
}

function featureNameTable(): Buffer {
  const table = Buffer.alloc(FEATURE_NAMES.length * FEATURE_NAME_ENTRY);
  for (const [index, [type, bit, name]] of FEATURE_NAMES.entries()) {
    const at = index * FEATURE_NAME_ENTRY;
    table.writeUInt8(type, at);
    table.writeUInt8(bit, at + 1);
    table.write(name, at + 2, 'latin1');
  }
  return table;
}
