/** Numbers of the qcow2 format (QEMU's docs/interop/qcow2.txt), and the limits within which Vivarium reads it. */

/** `QFI` and 0xfb. */
export const MAGIC = 0x514649fb;

export const MIN_CLUSTER_BITS = 9;
/** Larger clusters are in the format, but no other program opens them. */
export const MAX_CLUSTER_BITS = 21;
/** Refcounts of 64 bits. */
export const MAX_REFCOUNT_ORDER = 6;

/** Bytes of the largest L1 table, refcount table, and backing file name; entries of the largest snapshot table. QEMU's limits. */
export const MAX_L1_BYTES = 32 * 2 ** 20;
export const MAX_REFCOUNT_TABLE_BYTES = 8 * 2 ** 20;
export const MAX_BACKING_NAME = 1023;
export const MAX_SNAPSHOTS = 65536;

/** Where fields of the header are that are changed one by one. Bytes from the start of the file. */
export const HEADER_SIZE_FIELD = 24;
export const HEADER_L1 = 36;
export const HEADER_REFCOUNT_TABLE = 48;
export const HEADER_SNAPSHOTS = 60;
export const HEADER_INCOMPATIBLE = 72;
export const HEADER_COMPATIBLE = 80;
export const HEADER_AUTOCLEAR = 88;

export const V2_HEADER_LENGTH = 72;
export const V3_HEADER_LENGTH = 104;
export const COMPRESSION_TYPE_FIELD = 104;

export const INCOMPATIBLE_DIRTY = 1n << 0n;
export const INCOMPATIBLE_CORRUPT = 1n << 1n;
export const INCOMPATIBLE_COMPRESSION = 1n << 3n;
export const COMPATIBLE_LAZY_REFCOUNTS = 1n << 0n;
export const AUTOCLEAR_BITMAPS = 1n << 0n;

export const EXTENSION_END = 0;
export const EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const EXTENSION_FEATURE_NAMES = 0x6803f857;
export const EXTENSION_BITMAPS = 0x23852875;

/** Entries of the feature name table: 48 bytes, the name from byte 2 on. */
export const FEATURE_NAME_ENTRY = 48;

/** Compression types, by number. */
export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

// L1 and L2 entries are handled as two halves of 32 bits, so that no big integers are needed.

/** High half: the refcount is exactly one, so the cluster may be written in place. */
export const COPIED = 0x8000_0000;
/** High half: the cluster is compressed. */
export const COMPRESSED = 0x4000_0000;
/** High half: bits 32 to 55 of an offset. */
export const OFFSET_HIGH = 0x00ff_ffff;
/** Low half: bits 9 to 31 of an offset. */
export const OFFSET_LOW = 0xffff_fe00;
/** Low half: the cluster reads as zeroes (version 3). */
export const ZERO = 1;

/** Largest offset in an L1 or L2 entry. Numbers here are exact up to 2^53, and no file reaches that. */
export const MAX_OFFSET = 2 ** 53 - 1;

/** Bytes of a compressed cluster's unit of length. */
export const SECTOR = 512;

export const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
