// Templates of earlier runs, in a file: a guest that is started again is translated already.
//
// The file is a row of entries: a head of 32 bytes (KEPT, bytes of the template, its CRC-32, nothing, the fingerprint), then the template, in multiples
// of four bytes. It only grows, by whole batches at a time, so that several machines can add to it. What is not as it should be makes the file
// begin anew. There is one for each version of the translator.

import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Template } from './template.ts';

const KEPT = 0x54504b56;
const HEAD = 32;
/** No file grows larger. */
const MOST_BYTES = 128 << 20;
/** One of this size begins anew when it is opened: what it holds is old. */
const FULL_BYTES = 96 << 20;
/** Files of so many versions stay. */
const MOST_VERSIONS = 3;
const PIECE = 1 << 20;

interface Kept {
  readonly at: number;
  readonly length: number;
}

export class KeptTranslations {
  readonly #file: number;
  /** By fingerprint; undefined: this run has added it, and does not know where, as others add to the file, too. */
  readonly #kept = new Map<string, Kept | undefined>();
  #size = 0;

  /** Undefined: there is none to be had, and nothing is kept. `translator`: the file with its code, whose versions do not understand each other. */
  static open(folder: string, translator: string): KeptTranslations | undefined {
    const version = createHash('sha256').update(readFileSync(translator)).digest('hex').slice(0, 16);
    const path = join(folder, version);
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      let kept = new KeptTranslations(openKept(path));
      if (!kept.#read()) {
        closeSync(kept.#file);
        rmSync(path, { force: true });
        kept = new KeptTranslations(openKept(path));
      }
      if (kept.#size === 0) removeOldest(folder);
      return kept;
    } catch {
      return undefined;
    }
  }

  private constructor(file: number) {
    this.#file = file;
  }

  /** Finds the entries; false: the file is damaged or too large. */
  #read(): boolean {
    const { size } = fstatSync(this.#file);
    if (size > FULL_BYTES) return false;
    const piece = new Uint8Array(PIECE);
    const head = new DataView(piece.buffer);
    let start = 0;
    let end = 0;
    while (this.#size + HEAD <= size) {
      if (this.#size + HEAD > end) {
        start = this.#size;
        end = start + readSync(this.#file, piece, 0, PIECE, start);
        if (end < start + HEAD) return false;
      }
      const at = this.#size - start;
      const length = head.getUint32(at + 4, true);
      if (head.getUint32(at, true) !== KEPT || length % 4 !== 0 || this.#size + HEAD + length > size) return false;
      const key = Buffer.from(piece.buffer, at + 16, 16).toString('latin1');
      this.#kept.set(key, { at: this.#size, length });
      this.#size += HEAD + length;
    }
    return this.#size === size;
  }

  get(fingerprint: string): Template | undefined {
    const kept = this.#kept.get(fingerprint);
    if (!kept) return undefined;
    const bytes = new Uint8Array(HEAD + kept.length);
    const isThere = readSync(this.#file, bytes, 0, bytes.length, kept.at) === bytes.length;
    const head = new DataView(bytes.buffer);
    const packed = bytes.subarray(HEAD);
    const isSound = isThere && head.getUint32(4, true) === kept.length && head.getUint32(8, true) === crc32(packed);
    if (isSound) return unpack(packed);
    this.#kept.delete(fingerprint);
    return undefined;
  }

  /** Writes what is not there yet, by fingerprint. */
  add(templates: ReadonlyMap<string, Template>): void {
    const fresh = [...templates].filter(([fingerprint]) => !this.#kept.has(fingerprint));
    if (fresh.length === 0) return;
    const all = Buffer.concat(fresh.map(([fingerprint, template]) => entryOf(fingerprint, template)));
    if (this.#size + all.length > MOST_BYTES) return;
    this.#size += all.length;
    for (const [fingerprint] of fresh) this.#kept.set(fingerprint, undefined);
    try {
      writeSync(this.#file, all);
    } catch {
      // No room: the next run finds a damaged file and begins anew.
      this.#size = MOST_BYTES;
    }
  }
}

function entryOf(fingerprint: string, template: Template): Uint8Array {
  const packed = pack(template);
  const entry = new Uint8Array(HEAD + packed.length);
  const head = new DataView(entry.buffer);
  head.setUint32(0, KEPT, true);
  head.setUint32(4, packed.length, true);
  head.setUint32(8, crc32(packed), true);
  entry.set(Buffer.from(fingerprint, 'latin1'), 16);
  entry.set(packed, HEAD);
  return entry;
}

function openKept(path: string): number {
  return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
}

/** Of the versions the last ones stay. */
function removeOldest(folder: string): void {
  const paths = readdirSync(folder).map((name) => join(folder, name));
  const byTime = paths.map((path) => ({ path, time: statSync(path).mtimeMs })).sort((a, b) => b.time - a.time);
  for (const { path } of byTime.slice(MOST_VERSIONS)) rmSync(path, { force: true });
}

/** Words: how many of each there are, then them; then the function's body. */
function pack({ bytes, hints, relocations, ways }: Template): Uint8Array {
  const words = [bytes.length, hints.length, relocations.length, ways.length];
  for (const { offset, likely } of hints) words.push(offset * 2 + Number(likely));
  for (const { offset, kind, value } of relocations) words.push(offset * 8 + kind, value);
  for (const { start, end, record, isFar } of ways) words.push(start, end, record * 2 + Number(isFar));
  const packed = new Uint8Array(words.length * 4 + ((bytes.length + 3) & ~3));
  packed.set(new Uint8Array(Uint32Array.from(words).buffer));
  packed.set(bytes, words.length * 4);
  return packed;
}

function unpack(packed: Uint8Array<ArrayBuffer>): Template {
  const words = new Uint32Array(packed.buffer, packed.byteOffset, packed.length >> 2);
  let at = 0;
  const next = (): number => words[at++] as number;
  const [length, hintCount, relocationCount, wayCount] = [next(), next(), next(), next()];
  const list = <T>(count: number, read: () => T): T[] => Array.from({ length: count }, read);
  const hints = list(hintCount, () => {
    const word = next();
    return { offset: word >>> 1, likely: (word & 1) !== 0 };
  });
  const relocations = list(relocationCount, () => {
    const word = next();
    return { offset: word >>> 3, kind: word & 7, value: next() };
  });
  const ways = list(wayCount, () => {
    const [start, end, word] = [next(), next(), next()];
    return { start, end, record: word >>> 1, isFar: (word & 1) !== 0 };
  });
  const start = at * 4;
  return { bytes: packed.subarray(start, start + length), hints, relocations, ways };
}
