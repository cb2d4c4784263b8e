import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { HANDLER_STOP } from '../decode/blocks.ts';
import { REGIONS_MAX } from '../interpreter/engine.ts';
import * as L from '../layout.ts';
import { handlerCount } from '../semantics/index.ts';
import { Collector } from './collect.ts';
import { type Answer, compile, type Request } from './compile.ts';
import type { TranslatorData } from './translator-thread.ts';

/** Heat of one sample. */
const SAMPLE_HEAT = L.HOT_LOOKUPS / 2;
/** A record below this is none (layout.ts, LAST_RECORD). */
const FIRST_RECORD = 16;

type Exports = Record<string, unknown>;

interface Surroundings {
  readonly memory: WebAssembly.Memory;
  /** The interpreter's exports: its table, and the functions that regions leave by. */
  readonly engine: Exports;
  readonly helpers: Exports;
}

/** A region on its way: asked for, or in place. */
interface Entry {
  /** The entry block's first record. */
  readonly record: number;
  /** Node by which writes to the region's bytes are seen. */
  readonly node: number;
}

/** What a translator has done since it was made. */
export interface TranslationCounts {
  /** Regions asked for, and those that came into use. */
  requested: number;
  installed: number;
  /** Of the regions that were translated: guest instructions, bytes of WebAssembly, modules. */
  instructions: number;
  bytes: number;
  modules: number;
  /** Time that translating took, mostly in a thread of its own. */
  milliseconds: number;
}

/**
 * Finds hot code by looking where the interpreter is whenever its budget is used up, and has it translated. A region
 * stands in the handlers' table, and in the first record of its entry block instead of the first instruction's handler.
 */
export class Translator {
  readonly #view: DataView;
  readonly #imports: Record<string, Exports>;
  readonly #collector: Collector;
  readonly #sampleHeat: number;
  readonly #counting: boolean;
  readonly counts: TranslationCounts = {
    requested: 0,
    installed: 0,
    instructions: 0,
    bytes: 0,
    modules: 0,
    milliseconds: 0,
  };
  readonly #worker: Worker | undefined;
  /** To the translator's thread; undefined: this one translates, at once. */
  readonly #port: MessagePort | undefined;
  readonly #answers = new Int32Array(new SharedArrayBuffer(4));
  #answered = 0;
  /** By first record: the handler that the region took the place of. */
  readonly #original = new Map<number, number>();
  /** Asked for, by first record: a block can be found hot more than once. */
  readonly #requested = new Set<number>();
  /** By slot. */
  readonly #entries = new Map<number, Entry>();
  readonly #firstSlot = handlerCount();
  #nextSlot = this.#firstSlot;

  /**
   * `inThread`: regions come some time later; otherwise a sampled block is translated before sample() returns. `counting`: the
   * regions count the instructions that they run.
   */
  constructor({ memory, engine, helpers }: Surroundings, inThread: boolean, counting: boolean) {
    this.#counting = counting;
    this.#view = new DataView(memory.buffer);
    this.#imports = { env: { memory, table: engine['table'] }, engine, helpers };
    this.#collector = new Collector(memory.buffer as ArrayBuffer, (record) => this.#original.get(record));
    this.#sampleHeat = inThread ? SAMPLE_HEAT : L.HOT_LOOKUPS;
    if (!inThread) return;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const workerData: TranslatorData = { port: port2, answers: this.#answers.buffer };
    this.#worker = new Worker(new URL('translator-thread.ts', import.meta.url), {
      name: 'vivarium_translate',
      workerData,
      transferList: [port2],
    });
    this.#worker.unref();
    this.#port.unref();
  }

  /** Takes what is hot: by look-ups, and by being what the interpreter is about to go on with, this record. */
  sample(record: number): void {
    const view = this.#view;
    const answered = Atomics.load(this.#answers, 0);
    if (this.#port && answered !== this.#answered) {
      this.#answered = answered;
      this.#takeAnswers(this.#port);
    }
    const count = view.getUint32(L.HOT_COUNT, true);
    for (let i = 0; i < count; i++) this.#request(view.getUint32(L.HOT_BLOCKS + i * 4, true));
    if (count > 0) view.setUint32(L.HOT_COUNT, 0, true);
    if (record < FIRST_RECORD) return;
    // Loops link their blocks and are not looked up: a sample stands for many rounds.
    const at = record - L.NODE + L.NODE_HEAT;
    const heat = view.getUint32(at, true);
    const hotter = heat + this.#sampleHeat;
    view.setUint32(at, hotter, true);
    if (heat < L.HOT_LOOKUPS && hotter >= L.HOT_LOOKUPS) this.#request(record);
  }

  /** All decoded code is forgotten. */
  reset(): void {
    this.#view.setUint32(L.HOT_COUNT, 0, true);
    this.#original.clear();
    this.#requested.clear();
    this.#entries.clear();
    this.#nextSlot = this.#firstSlot;
  }

  close(): void {
    void this.#worker?.terminate();
  }

  #request(record: number): void {
    if (this.#nextSlot === this.#firstSlot + REGIONS_MAX || this.#requested.has(record)) return;
    this.#requested.add(record);
    const collected = this.#collector.collect(record);
    if (!collected) return;
    this.counts.requested++;
    const slot = this.#nextSlot++;
    const view = this.#view;
    // Until the region is in place, writes to its bytes reach a record of its own.
    const node = view.getUint32(L.ARENA_NEXT, true);
    const own = node + L.NODE;
    view.setUint32(L.ARENA_NEXT, own + L.RECORD, true);
    view.setUint16(own + L.R_HANDLER, HANDLER_STOP, true);
    const page = L.CODE_PAGES + (collected.start >>> 12) * 4;
    view.setUint32(node + L.NODE_NEXT, view.getUint32(page, true), true);
    view.setUint32(node + L.NODE_START, collected.start, true);
    view.setUint32(node + L.NODE_LENGTH, collected.end - collected.start, true);
    view.setUint32(node + L.NODE_RECORDS, own, true);
    view.setUint32(node + L.NODE_COUNT, 1, true);
    view.setUint32(node + L.NODE_HASH, 0, true);
    view.setUint32(page, node, true);
    this.#entries.set(slot, { record, node });
    const request: Request = {
      collected,
      slot,
      generation: view.getUint32(L.ARENA_GENERATION, true),
      counting: this.#counting,
    };
    if (this.#port) {
      this.#port.postMessage(request);
    } else {
      const answer = compile([request]);
      if (answer) this.#take(answer);
    }
  }

  #takeAnswers(port: MessagePort): void {
    for (;;) {
      const answer = receiveMessageOnPort(port)?.message as Answer | undefined;
      if (!answer) return;
      this.#take(answer);
    }
  }

  #take({ generation, module, slots, instructions, bytes, milliseconds }: Answer): void {
    const { counts } = this;
    counts.modules++;
    counts.instructions += instructions;
    counts.bytes += bytes;
    counts.milliseconds += milliseconds;
    // Its slots may be somebody else's by now.
    if (generation !== this.#view.getUint32(L.ARENA_GENERATION, true)) return;
    new WebAssembly.Instance(module, this.#imports as never);
    for (const slot of slots) this.#install(slot);
  }

  #install(slot: number): void {
    const view = this.#view;
    const entry = this.#entries.get(slot);
    if (!entry) return;
    const { record, node } = entry;
    // The guest has changed the code meanwhile.
    if (view.getUint16(node + L.NODE + L.R_HANDLER, true) === L.HANDLER_STALE) return;
    this.counts.installed++;
    this.#original.set(record, view.getUint16(record + L.R_HANDLER, true));
    view.setUint16(record + L.R_HANDLER, slot, true);
    view.setUint32(node + L.NODE_RECORDS, record, true);
    view.setUint32(node + L.NODE_HASH, view.getUint32(record - L.NODE + L.NODE_HASH, true), true);
  }
}
