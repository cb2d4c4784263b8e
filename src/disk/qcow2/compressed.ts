/** Compressed clusters: read only, and a few kept. */
import { constants, inflateRawSync, zstdDecompressSync } from 'node:zlib';
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import type { Header } from './header.ts';
import { zstdFrameLength } from './zstd-frame.ts';

/** Bytes of unpacked clusters that are kept: the next request is often for the same one. */
const CACHE_BYTES = 2 ** 20;

export class CompressedClusters {
  readonly #file: ImageFile;
  readonly #header: Header;
  readonly #capacity: number;
  readonly #clusters = new Map<number, Buffer>();

  constructor(file: ImageFile, header: Header) {
    this.#file = file;
    this.#header = header;
    this.#capacity = Math.max(1, CACHE_BYTES / 2 ** header.clusterBits);
  }

  /** The cluster whose compressed bytes are in these of the file. Throws OsError, CorruptImageError. */
  read(offset: number, length: number): Buffer {
    const kept = this.#clusters.get(offset);
    if (kept !== undefined) return kept;
    const cluster = this.#unpack(this.#file.readBuffer(offset, length), offset);
    for (const [oldest] of this.#clusters) {
      if (this.#clusters.size < this.#capacity) break;
      this.#clusters.delete(oldest);
    }
    this.#clusters.set(offset, cluster);
    return cluster;
  }

  /** Other data may be in the place of what was kept. */
  clear(): void {
    this.#clusters.clear();
  }

  /** What follows the stream in its last sector may be anything. */
  #unpack(packed: Buffer, offset: number): Buffer {
    const maxOutputLength = 2 ** this.#header.clusterBits;
    let cluster: Buffer | undefined;
    try {
      cluster =
        this.#header.compression === 'zstd'
          ? unpackZstd(packed, maxOutputLength)
          : inflateRawSync(packed, { maxOutputLength, finishFlush: constants.Z_SYNC_FLUSH });
    } catch {
      // Said below.
    }
    if (cluster?.length === maxOutputLength) return cluster;
    throw new CorruptImageError(
      `${this.#file.path}: the compressed cluster at 0x${offset.toString(16)} is no ${this.#header.compression} data`,
    );
  }
}

/** Unpacks frames until there is a cluster. What follows may look like the start of one more: the next cluster's. */
function unpackZstd(packed: Buffer, length: number): Buffer {
  const parts: Buffer[] = [];
  let total = 0;
  for (let at = 0; total < length; ) {
    const end = at + zstdFrameLength(packed.subarray(at));
    const part = zstdDecompressSync(packed.subarray(at, end), { maxOutputLength: length - total });
    if (part.length === 0) break;
    parts.push(part);
    total += part.length;
    at = end;
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}
