/**
 * LZMA decoder: the raw stream, as LZMA2 chunks and .lzma files hold it (LZMA specification of the LZMA SDK). The
 * dictionary is the output itself, which is wholly in memory.
 */
import { KernelError } from './error.ts';

const PROB_INIT = 1024; // 0.5 in 11 bits
const TOP = 0x1000000;
const RANGE = 0;
const CODE = 1;

// Probabilities, all in one array: where each model starts.
const MAX_POS_STATES = 16;
const STATES = 12;
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * MAX_POS_STATES;
const IS_REP0 = IS_REP + STATES;
const IS_REP1 = IS_REP0 + STATES;
const IS_REP2 = IS_REP1 + STATES;
const IS_REP0_LONG = IS_REP2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * MAX_POS_STATES;
const POS_SPECIAL = POS_SLOT + 4 * 64;
const POS_ALIGN = POS_SPECIAL + 128;
const MATCH_LENGTH = POS_ALIGN + 16;
// A length model: two choice bits, low and mid trees for each position state, one high tree.
const LENGTH_LOW = 2;
const LENGTH_MID = LENGTH_LOW + MAX_POS_STATES * 8;
const LENGTH_HIGH = LENGTH_MID + MAX_POS_STATES * 8;
const LENGTH_SIZE = LENGTH_HIGH + 256;
const REP_LENGTH = MATCH_LENGTH + LENGTH_SIZE;
const LITERAL = REP_LENGTH + LENGTH_SIZE;
const LITERAL_SIZE = 0x300;

const MIN_MATCH = 2;

export function corruptLzma(what: string): KernelError {
  return new KernelError(
    'corrupt-payload',
    `the kernel's xz or LZMA payload is damaged (${what}): fetch or build the kernel again`,
  );
}

/** The decoder's state between chunks. Call reset() once, start() for each range-coded run, then decode(). */
export class LzmaDecoder {
  readonly #input: Uint8Array;
  readonly #out: Uint8Array;
  #probs = new Uint16Array(0);
  #lc = 0;
  #literalPositionMask = 0;
  #positionMask = 0;
  #state = 0;
  /** The last four distances, less 1. */
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;
  /** The range coder's range and code: unsigned, which fields of an object are only as floating point. */
  readonly #coder = new Uint32Array(2);
  #dictionaryStart = 0;
  /** Index of the next byte of the input. */
  inputPosition = 0;
  /** Index in the output of the next byte to be written. */
  outputPosition = 0;

  constructor(input: Uint8Array, out: Uint8Array) {
    this.#input = input;
    this.#out = out;
  }

  /** Sets lc, lp and pb from the properties byte, and resets the state. */
  setProperties(byte: number): void {
    if (byte >= 9 * 5 * 5) {
      throw corruptLzma('unknown properties');
    }
    const lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    this.#lc = lc;
    this.#literalPositionMask = (1 << lp) - 1;
    this.#positionMask = (1 << Math.floor(byte / 45)) - 1;
    this.#probs = new Uint16Array(LITERAL + (LITERAL_SIZE << (lc + lp)));
    this.resetState();
  }

  resetState(): void {
    this.#probs.fill(PROB_INIT);
    this.#state = 0;
    this.#rep0 = this.#rep1 = this.#rep2 = this.#rep3 = 0;
  }

  /** Matches may not reach back beyond here. */
  resetDictionary(): void {
    this.#dictionaryStart = this.outputPosition;
  }

  /** Initialises the range decoder with the next five bytes of the input. */
  start(): void {
    if (this.#probs.length === 0) {
      throw corruptLzma('data before its properties');
    }
    const at = this.inputPosition;
    const input = this.#input;
    if (input.length - at < 5) {
      throw corruptLzma('it ends early');
    }
    if (input[at] !== 0) {
      throw corruptLzma('bad start of the range coder');
    }
    this.#coder[RANGE] = 0xffffffff;
    this.#coder[CODE] = new DataView(input.buffer, input.byteOffset + at, 5).getUint32(1, false);
    this.inputPosition = at + 5;
  }

  /** Whether the range coder stands where an encoder ends a run: anything else is damage in its last bytes. */
  get finished(): boolean {
    return this.#coder[CODE] === 0;
  }

  #bit(index: number): number {
    const probs = this.#probs;
    const coder = this.#coder;
    const probability = probs[index] as number;
    const range = coder[RANGE] as number;
    const code = coder[CODE] as number;
    const bound = Math.imul(range >>> 11, probability) >>> 0;
    if (code < bound) {
      coder[RANGE] = bound;
      probs[index] = probability + ((2048 - probability) >> 5);
      if (bound < TOP) {
        this.#normalize();
      }
      return 0;
    }
    const rest = (range - bound) >>> 0;
    coder[RANGE] = rest;
    coder[CODE] = (code - bound) >>> 0;
    probs[index] = probability - (probability >> 5);
    if (rest < TOP) {
      this.#normalize();
    }
    return 1;
  }

  #normalize(): void {
    // Past the end zeros come in: decode() notices, since inputPosition passes the input's length.
    const at = this.inputPosition;
    const byte = at < this.#input.length ? (this.#input[at] as number) : 0;
    this.inputPosition = at + 1;
    const coder = this.#coder;
    coder[RANGE] = (coder[RANGE] as number) << 8;
    coder[CODE] = ((coder[CODE] as number) << 8) | byte;
  }

  #directBits(count: number): number {
    const coder = this.#coder;
    let value = 0;
    for (let i = 0; i < count; i++) {
      const range = (coder[RANGE] as number) >>> 1;
      const code = coder[CODE] as number;
      coder[RANGE] = range;
      value <<= 1;
      if (code >= range) {
        coder[CODE] = (code - range) >>> 0;
        value |= 1;
      }
      if (range < TOP) {
        this.#normalize();
      }
    }
    return value;
  }

  #tree(start: number, bits: number): number {
    let node = 1;
    for (let i = 0; i < bits; i++) {
      node = (node << 1) | this.#bit(start + node);
    }
    return node - (1 << bits);
  }

  #reverseTree(start: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(start + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  #length(model: number, positionState: number): number {
    if (this.#bit(model) === 0) {
      return MIN_MATCH + this.#tree(model + LENGTH_LOW + positionState * 8, 3);
    }
    if (this.#bit(model + 1) === 0) {
      return MIN_MATCH + 8 + this.#tree(model + LENGTH_MID + positionState * 8, 3);
    }
    return MIN_MATCH + 16 + this.#tree(model + LENGTH_HIGH, 8);
  }

  #distance(length: number): number {
    const slot = this.#tree(POS_SLOT + Math.min(length - MIN_MATCH, 3) * 64, 6);
    if (slot < 4) {
      return slot;
    }
    const bits = (slot >> 1) - 1;
    const base = (2 | (slot & 1)) << bits;
    if (slot < 14) {
      return base + this.#reverseTree(POS_SPECIAL + base - slot, bits);
    }
    return (base + (this.#directBits(bits - 4) << 4) + this.#reverseTree(POS_ALIGN, 4)) >>> 0;
  }

  #literal(op: number): void {
    const out = this.#out;
    const previous = op > this.#dictionaryStart ? (out[op - 1] as number) : 0;
    const context =
      (((op - this.#dictionaryStart) & this.#literalPositionMask) << this.#lc) | (previous >> (8 - this.#lc));
    const model = LITERAL + context * LITERAL_SIZE;
    let symbol = 1;
    if (this.#state >= 7) {
      // After a match: the byte at the last distance helps to predict, until it differs.
      let match = out[op - this.#rep0 - 1] as number;
      do {
        const matchBit = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#bit(model + ((1 + matchBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== matchBit) {
          break;
        }
      } while (symbol < 0x100);
    }
    while (symbol < 0x100) {
      symbol = (symbol << 1) | this.#bit(model + symbol);
    }
    out[op] = symbol & 0xff;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  /**
   * Decodes until the output has reached `limit` (an index) or an end marker is met. Returns true for the marker.
   * Throws KernelError on damage: the output is never written beyond `limit`.
   */
  decode(limit: number): boolean {
    const out = this.#out;
    let op = this.outputPosition;
    while (op < limit) {
      if (this.inputPosition > this.#input.length) {
        throw corruptLzma('it ends early');
      }
      const positionState = (op - this.#dictionaryStart) & this.#positionMask;
      const state = this.#state;
      if (this.#bit(IS_MATCH + state * MAX_POS_STATES + positionState) === 0) {
        this.#literal(op);
        op++;
        continue;
      }
      let length: number;
      if (this.#bit(IS_REP + state) === 0) {
        this.#rep3 = this.#rep2;
        this.#rep2 = this.#rep1;
        this.#rep1 = this.#rep0;
        length = this.#length(MATCH_LENGTH, positionState);
        this.#rep0 = this.#distance(length);
        this.#state = state < 7 ? 7 : 10;
        if (this.#rep0 === 0xffffffff) {
          this.outputPosition = op;
          return true;
        }
      } else {
        if (this.#bit(IS_REP0 + state) === 0) {
          if (this.#bit(IS_REP0_LONG + state * MAX_POS_STATES + positionState) === 0) {
            length = 1;
            this.#state = state < 7 ? 9 : 11;
          } else {
            length = this.#length(REP_LENGTH, positionState);
            this.#state = state < 7 ? 8 : 11;
          }
        } else {
          let distance: number;
          if (this.#bit(IS_REP1 + state) === 0) {
            distance = this.#rep1;
          } else {
            if (this.#bit(IS_REP2 + state) === 0) {
              distance = this.#rep2;
            } else {
              distance = this.#rep3;
              this.#rep3 = this.#rep2;
            }
            this.#rep2 = this.#rep1;
          }
          this.#rep1 = this.#rep0;
          this.#rep0 = distance;
          length = this.#length(REP_LENGTH, positionState);
          this.#state = state < 7 ? 8 : 11;
        }
      }
      const back = this.#rep0 + 1;
      if (back > op - this.#dictionaryStart) {
        throw corruptLzma('a match points before the start');
      }
      if (length > limit - op) {
        throw corruptLzma('a match runs over the end');
      }
      for (const stop = op + length; op < stop; op++) {
        out[op] = out[op - back] as number;
      }
    }
    this.outputPosition = op;
    if (this.inputPosition > this.#input.length) {
      throw corruptLzma('it ends early');
    }
    return false;
  }
}

/** Unpacks a .lzma file ("LZMA alone": 13 bytes of header) of `size` bytes when unpacked; bytes after it are ignored. */
export function decompressLzmaAlone(input: Uint8Array, size: number): Uint8Array {
  if (input.length < 13) {
    throw corruptLzma('it ends early');
  }
  const out = new Uint8Array(size);
  const decoder = new LzmaDecoder(input, out);
  decoder.setProperties(input[0] as number);
  decoder.inputPosition = 13;
  decoder.start();
  decoder.decode(size);
  if (decoder.outputPosition !== size) {
    throw corruptLzma('it is shorter than it says');
  }
  return out;
}
