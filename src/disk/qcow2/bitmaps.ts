/** Persistent bitmaps: Vivarium only has to know which clusters they use. */
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { AUTOCLEAR_BITMAPS, EXTENSION_BITMAPS, MAX_OFFSET, roundUp } from './format.ts';
import type { Header } from './header.ts';

const DIRECTORY_ENTRY = 24;
/** QEMU's limits: bytes of the directory, and entries of one bitmap's table. */
const MAX_DIRECTORY = 65535 * 1024;
const MAX_TABLE = 2 ** 20;

/** The ranges of the file that bitmaps use. Those of an image whose bitmaps are out of date count as leaked. Throws CorruptImageError. */
export function* bitmapClusters(
  file: ImageFile,
  header: Header,
): Generator<{ readonly offset: number; readonly length: number }> {
  const extension = header.extensions.find(({ type }) => type === EXTENSION_BITMAPS);
  if (extension === undefined || (header.autoclear & AUTOCLEAR_BITMAPS) === 0n) return;
  const clusterSize = 2 ** header.clusterBits;
  const fail = (what: string): never => {
    throw new CorruptImageError(`${file.path}: bitmaps: ${what}`);
  };
  if (extension.data.length < 24) fail('their header extension is too short');
  const count = extension.data.readUInt32BE(0);
  const [size, directory] = [extension.data.readBigUInt64BE(8), extension.data.readBigUInt64BE(16)];
  if (size > BigInt(MAX_DIRECTORY) || directory > BigInt(MAX_OFFSET) || Number(directory) % clusterSize !== 0) {
    fail('their directory is nowhere');
  }
  if (Number(directory) + Number(size) > file.size) fail('their directory is cut off');
  yield { offset: Number(directory), length: Number(size) };
  const bytes = file.readBuffer(Number(directory), Number(size));
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + DIRECTORY_ENTRY > bytes.length) fail('their directory is too short');
    const table = Number(bytes.readBigUInt64BE(at));
    const entries = bytes.readUInt32BE(at + 8);
    if (entries > MAX_TABLE || table % clusterSize !== 0 || table + entries * 8 > file.size)
      fail(`table ${i} is nowhere`);
    at += roundUp(DIRECTORY_ENTRY + bytes.readUInt32BE(at + 20) + bytes.readUInt16BE(at + 18), 8);
    if (entries === 0) continue;
    yield { offset: table, length: entries * 8 };
    const tableBytes = file.readBuffer(table, entries * 8);
    for (let entry = 0; entry < entries; entry++) {
      const offset = Number(tableBytes.readBigUInt64BE(entry * 8) & 0x00ff_ffff_ffff_fe00n);
      if (offset === 0) continue;
      if (offset % clusterSize !== 0 || offset >= file.size) fail(`a cluster is at 0x${offset.toString(16)}`);
      yield { offset, length: 1 };
    }
  }
}
