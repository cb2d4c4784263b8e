import * as L from '../layout.ts';
import { placeBlock } from './block-hash.ts';
import { Decoder, MAX_INSTRUCTION } from './decoder.ts';
import type { Plan } from './plan.ts';

/** Handlers of the engine itself (interpreter/engine.ts); real instructions start at FIRST_HANDLER. */
export const HANDLER_STOP = 1;
export const HANDLER_CROSS = 2;
export const HANDLER_UNDEFINED = 3;
export const HANDLER_FETCH = 4;
export const HANDLER_TOO_LONG = 5;
export const HANDLER_BREAK = 6;
/** No record has these: regions go on by them. */
export const HANDLER_LEFT = 7;
export const HANDLER_AFTER = 8;
export const HANDLER_LOOKUP = 9;
export const HANDLER_BRANCH_SLOW = 10;

const PAGE_SIZE = 4096;
/** Instructions in a block at most: R_COUNT is a byte, and a block is what one budget check pays for. */
export const MAX_BLOCK = 64;

export interface BlockHost {
  /** tlb_fill for execution: host address of the byte at `linear`, 0 fault, 1 not RAM. */
  translateCode(linear: bigint): number;
  /** The first node is put on the page of `host`: writes to it must be seen. */
  protectPage(host: number): void;
  /** The arena is full: everything decoded is forgotten. */
  reset(): void;
  /** Linear addresses where execution must stop for a debugger. */
  readonly breakpoints: ReadonlySet<bigint>;
}

/**
 * Turns guest code into blocks of records in the vCPU's memory: from one entry point on to the first instruction that
 * always goes elsewhere, or to the end of the page.
 */
export class BlockBuilder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #decoder: Decoder;
  readonly #crossing: Uint8Array;
  readonly #crossingDecoder: Decoder;
  readonly #host: BlockHost;
  /** What was decoded so far. */
  decodedBlocks = 0;
  decodedInstructions = 0;

  constructor(memory: ArrayBuffer, host: BlockHost) {
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
    this.#decoder = new Decoder(this.#bytes);
    this.#crossing = new Uint8Array(MAX_INSTRUCTION);
    this.#crossingDecoder = new Decoder(this.#crossing);
    this.#host = host;
    this.#view.setUint32(L.ARENA_NEXT, L.ARENA, true);
  }

  /** Forgets everything decoded. */
  reset(): void {
    // Nothing is decoded: what would be cleared is clear, and has perhaps never been touched.
    if (this.#view.getUint32(L.ARENA_NEXT, true) === L.ARENA) return;
    this.#bytes.fill(0, L.BLOCK_HASH, L.BLOCK_HASH_END);
    this.#bytes.fill(0, L.CODE_PAGES, L.CODE_PAGES_END);
    const view = this.#view;
    view.setUint32(L.ARENA_NEXT, L.ARENA, true);
    view.setUint32(L.ARENA_GENERATION, view.getUint32(L.ARENA_GENERATION, true) + 1, true);
  }

  /**
   * Decodes the block whose first byte is at `host`, mapped at `linear`.
   * @returns address of its first record
   */
  build(host: number, linear: bigint): number {
    const view = this.#view;
    const mode = view.getUint32(L.MODE, true);
    const transient = (mode & L.MODE_STEP) !== 0;
    let node = L.ARENA_TRANSIENT;
    if (!transient) {
      if (view.getUint32(L.ARENA_NEXT, true) + (MAX_BLOCK + 4) * L.RECORD + 2 * L.NODE > L.ARENA_TRANSIENT)
        this.#host.reset();
      node = view.getUint32(L.ARENA_NEXT, true);
    }
    const first = node + L.NODE;
    const pageOffset = host & 0xfff;
    const pageHost = host - pageOffset;
    const pageLinear = linear - BigInt(pageOffset);
    let record = first;
    let offset = pageOffset;
    let count = 0;
    let secondPage = 0;
    const limit = transient ? 1 : MAX_BLOCK;
    const { breakpoints } = this.#host;
    const end = pageOffset + this.#roomInSegment(linear, mode);
    for (;;) {
      if (count === limit || offset >= 4096 || offset >= end) {
        this.#special(record, HANDLER_STOP, offset, count);
        break;
      }
      if (breakpoints.size > 0 && breakpoints.has(pageLinear + BigInt(offset)) && !transient) {
        this.#special(record, HANDLER_BREAK, offset, count);
        break;
      }
      let decoder = this.#decoder;
      let status = decoder.decode(pageHost + offset, 4096 - offset, mode);
      if (status === 'more-bytes') {
        // The instruction crosses into the next page: it gets a block of its own.
        if (count > 0) {
          this.#special(record, HANDLER_STOP, offset, count);
          break;
        }
        const next = this.#host.translateCode(pageLinear + 4096n);
        if (next <= 1) {
          this.#special(record, HANDLER_FETCH, offset, 1);
          // A block that only reports a fault is not kept.
          return first;
        }
        const here = 4096 - offset;
        this.#crossing.set(this.#bytes.subarray(pageHost + offset, pageHost + 4096));
        this.#crossing.set(this.#bytes.subarray(next, next + MAX_INSTRUCTION - here), here);
        decoder = this.#crossingDecoder;
        status = decoder.decode(0, MAX_INSTRUCTION, mode);
        secondPage = next;
        this.#special(record, HANDLER_CROSS, offset, 1);
        view.setUint32(record + L.R_DISP, next, true);
        record += L.RECORD;
      }
      if (offset + decoder.length > end) {
        // The code segment ends within the instruction: as above, but for the fault, which is of this segment alone.
        if (count > 0) {
          this.#special(record, HANDLER_STOP, offset, count);
          break;
        }
        this.#special(first, HANDLER_TOO_LONG, offset, 1);
        return first;
      }
      count++;
      if (status !== 'ok') {
        this.#special(record, status === 'undefined' ? HANDLER_UNDEFINED : HANDLER_TOO_LONG, offset, count);
        break;
      }
      this.#write(record, decoder, offset, count);
      record += L.RECORD;
      offset += decoder.length;
      // What ends a block may still go on with the next instruction, after a look-up.
      if (decoder.plan?.ends || secondPage !== 0) {
        this.#special(record, HANDLER_STOP, offset, count);
        break;
      }
    }
    this.decodedBlocks++;
    this.decodedInstructions += count;
    if (!transient) this.#keep(node, host, offset - pageOffset, secondPage, mode, record + L.RECORD);
    return first;
  }

  /** Bytes from `linear` to the end of the code segment; where it has none, more than a page. */
  #roomInSegment(linear: bigint, mode: number): number {
    if ((mode & L.MODE_CODE_MASK) === L.MODE_CODE64) return 2 * PAGE_SIZE;
    const ip = BigInt.asUintN(32, linear - this.#view.getBigUint64(L.SEG_CS + L.SEG_O_BASE, true));
    return this.#view.getUint32(L.SEG_CS + L.SEG_O_LIMIT, true) + 1 - Number(ip);
  }

  /** Puts the block where the look-up finds it and where writes to its bytes find it. */
  #keep(node: number, host: number, length: number, secondPage: number, mode: number, end: number): void {
    const view = this.#view;
    const first = node + L.NODE;
    const records = (end - first) / L.RECORD;
    const inPage = Math.min(length, 4096 - (host & 0xfff));
    const slot = placeBlock(view, host, first);
    this.#node(node, host, inPage, first, records, slot, mode);
    let next = end;
    if (secondPage !== 0) {
      this.#node(next, secondPage, length - inPage, first, records, slot, mode);
      next += L.NODE;
    }
    view.setUint32(L.ARENA_NEXT, next, true);
  }

  #node(node: number, host: number, length: number, first: number, records: number, slot: number, mode: number): void {
    const view = this.#view;
    const page = L.CODE_PAGES + (host >>> 12) * 4;
    const head = view.getUint32(page, true);
    view.setUint32(node + L.NODE_NEXT, head, true);
    view.setUint32(node + L.NODE_START, host, true);
    view.setUint32(node + L.NODE_LENGTH, length, true);
    view.setUint32(node + L.NODE_RECORDS, first, true);
    view.setUint16(node + L.NODE_COUNT, records, true);
    view.setUint32(node + L.NODE_HASH, slot, true);
    view.setUint32(node + L.NODE_HEAT, view.getUint32(L.HEAT_START, true), true);
    view.setUint32(node + L.NODE_MODE, mode, true);
    view.setUint32(page, node, true);
    if (head === 0) this.#host.protectPage(host);
  }

  #special(record: number, handler: number, offset: number, count: number): void {
    const view = this.#view;
    this.#bytes.fill(0, record, record + L.RECORD);
    view.setUint16(record + L.R_HANDLER, handler, true);
    view.setUint16(record + L.R_OFFSET, offset, true);
    view.setUint8(record + L.R_COUNT, count);
  }

  #write(record: number, d: Decoder, offset: number, count: number): void {
    const view = this.#view;
    view.setUint16(record + L.R_HANDLER, d.handler, true);
    view.setUint16(record + L.R_REG, d.reg, true);
    view.setUint16(record + L.R_RM, d.rm, true);
    view.setUint16(record + L.R_INDEX, d.index, true);
    view.setUint16(record + L.R_SEG, d.segment, true);
    const plan = d.plan as Plan;
    const stack = plan.stack ? L.SCALE_STACK : 0;
    view.setUint8(record + L.R_SCALE, d.scale | stack);
    view.setUint8(record + L.R_LEN, d.length);
    view.setUint16(record + L.R_OFFSET, offset, true);
    view.setUint8(record + L.R_PREFIX, d.prefixes);
    view.setUint8(record + L.R_COUNT, count);
    const end = offset + d.length;
    if (d.hasRelative) {
      view.setUint8(record + L.R_SCALE, L.SCALE_BRANCH | stack);
      this.#set(record + L.R_DISP, 0, 0);
      this.#setSigned(record + L.R_IMM, end + d.relative);
      return;
    }
    if (d.rm === L.IP_PAGE) this.#setSigned(record + L.R_DISP, d.displacementLow + end);
    else this.#set(record + L.R_DISP, d.displacementLow, d.displacementHigh);
    this.#set(record + L.R_IMM, d.immediateLow, d.immediateHigh);
    if (plan.vex) view.setUint16(record + L.R_VVVV, d.vvvv, true);
  }

  #set(at: number, low: number, high: number): void {
    this.#view.setInt32(at, low, true);
    this.#view.setInt32(at + 4, high, true);
  }

  /** A number of 33 bits as one of 64. */
  #setSigned(at: number, value: number): void {
    this.#set(at, value | 0, value < 0 ? -1 : 0);
  }
}
