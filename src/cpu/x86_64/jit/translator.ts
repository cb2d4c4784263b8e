import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { threadFile } from '../../../host/bundle.ts';
import { handlerCount } from '../decode/lines.ts';
import * as L from '../layout.ts';
import { Collector } from './collect.ts';
import type { Answer, Batch, Request } from './compile.ts';
import { RegionStore } from './region-store.ts';
import type { TranslatorData } from './translator-thread.ts';

/**
 * Heat of one sample. Fewer samples, two say, come together by chance: some hundred blocks that are worth nothing are met so in each
 * round of `npm run bench -- soak`.
 */
const SAMPLE_HEAT = L.HOT_LOOKUPS / 4;
/**
 * Samples until HEAT_START is another: a second, and 10 ms in a warm guest. What gets hot in the span it was first met in, or the next, is
 * translated; what takes longer is worth less than its region's memory, and is counted anew.
 */
const COLD_SPAN = 1 << 17;
const WARM_SPAN = 1 << 10;
/** A guest is warm after a cold span's time in which fewer regions were asked for than this part of those there are, until as many are again. */
const WARM_PART = 1 / 128;
/** A record below this is none (layout.ts, LAST_RECORD). */
const FIRST_RECORD = 16;

type Exports = Record<string, unknown>;

interface Surroundings {
  readonly memory: WebAssembly.Memory;
  /** The handlers' table. */
  readonly table: WebAssembly.Table;
  readonly helpers: Exports;
}

/** Regions of one module at most: what is compiled together is also kept together. */
const BATCH_MOST = 32;
/**
 * Milliseconds that hot blocks wait for others to share their module. Each module is an instance with code pages, tiering budgets and
 * tables of its own, and going from region to region touches them: with 2.5 regions a module the budgets alone were a tenth of first-tier code's time.
 */
const PATIENCE = 10;
/** A batch of fewer has the next one wait for twice as long, up to this: what gets hot now and then, for hours, shares modules, too. */
const FEW = 4;
const LONGEST_PATIENCE = 4000;
/** Of what is as hot as this a guest waits for nothing else. */
const URGENT_HEAT = 16 * L.HOT_LOOKUPS;
/** So many samples find a region before V8 compiles it again, by TurboFan: it is where time goes then. */
const IMPROVE_SAMPLES = 4;
/** Of the thread's young objects, in MiB: with V8's own limit 64 of them stay resident, and nothing is faster. */
const YOUNG_GENERATION = 8;
/** Between two samples regions are left as often as this, for no TLB miss: to leave and to come back are worth 50 instructions and more. */
const LEFT_OFTEN = 16;
/** Of this many samples... */
const LEFT_WINDOW = 256;
/** ...so many find it left so often: another one takes its place... */
const LEFT_SAMPLES = 32;
/** ...until there have been this many: the next process has its stack elsewhere. */
const APART_WINDOW = 1 << 16;

/** What a translator has done since it was made. */
export interface TranslationCounts {
  /** Regions asked for, and those that came into use. */
  requested: number;
  installed: number;
  /** Regions that an earlier run had translated. */
  kept: number;
  /** Regions that were compiled again, by TurboFan. */
  improved: number;
  /** Of the regions that were translated: guest instructions, bytes of WebAssembly, modules. */
  instructions: number;
  bytes: number;
  modules: number;
  /** Time that translating took, mostly in a thread of its own. */
  milliseconds: number;
}

/** Makes a module at once (compile.ts). */
export type Compile = (batch: Batch) => Answer;

/**
 * Finds hot code by looking where the interpreter is whenever its budget is used up, and has it translated, the hottest first. A region
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
    kept: 0,
    improved: 0,
    instructions: 0,
    bytes: 0,
    modules: 0,
    milliseconds: 0,
  };
  readonly #compile: Compile | undefined;
  /** To the translator's thread, once there is one. */
  #port: MessagePort | undefined;
  readonly #answers = new Int32Array(new SharedArrayBuffer(4));
  #answered = 0;
  readonly #store: RegionStore;
  /** First records of hot blocks that nothing has been asked for yet. */
  readonly #waiting = new Set<number>();
  /** First records of which the region in place, or asked for, has accesses that share no look-ups. */
  readonly #apart = new Set<number>();
  /** By first record of a region: samples that found it left, and how many samples there were in all. */
  readonly #leftSamples = new Map<number, number>();
  #samples = 0;
  /** COUNT_LEFT at the last sample. */
  #left = 0;
  /** Those of which nothing can be made. */
  readonly #hopeless = new Set<number>();
  /** A batch is at the translator's thread. */
  #isAsked = false;
  /** First records of regions that samples have found often. */
  readonly #improvable = new Set<number>();
  /** One is being compiled again. */
  #isImproving = false;
  /** When the first of those that wait came, by performance.now(). */
  #waitingSince: number | undefined;
  #patience = PATIENCE;
  #isWarm = false;
  /** How many spans have ended, and when this one does, in samples. */
  #spans = 0;
  #spanEnd = COLD_SPAN;
  /** When it is decided whether the guest is warm, in samples, and the regions that had been asked for when it last was. */
  #decision = COLD_SPAN;
  #askedBefore = 0;
  /** One of those that wait is as hot as URGENT_HEAT. */
  #isUrgent = false;

  /**
   * `compile`: translates a sampled block before sample() returns; without it a thread does so, some time later. `counting`: the
   * regions count the instructions that they run. `most`: regions that are kept at a time.
   */
  constructor({ memory, table, helpers }: Surroundings, compile: Compile | undefined, counting: boolean, most: number) {
    this.#counting = counting;
    const buffer = memory.buffer as ArrayBuffer;
    this.#view = new DataView(buffer);
    this.#imports = { env: { memory, table }, helpers };
    this.#store = new RegionStore(buffer, table, handlerCount(), most, (blocks) => this.#collector.release(blocks));
    this.#collector = new Collector(buffer, (record) => this.#store.original(record));
    this.#sampleHeat = compile ? L.HOT_LOOKUPS : SAMPLE_HEAT;
    this.#compile = compile;
  }

  /** Takes what is hot: by look-ups, and by being what the interpreter is about to go on with, this record. */
  sample(record: number): void {
    const view = this.#view;
    // It takes a while: something will be hot by then.
    if (!this.#compile) this.#port ??= this.#startThread();
    const answered = Atomics.load(this.#answers, 0);
    if (this.#port && answered !== this.#answered) {
      this.#answered = answered;
      this.#takeAnswers(this.#port);
    }
    const count = view.getUint32(L.HOT_COUNT, true);
    for (let i = 0; i < count; i++) {
      const hot = view.getUint32(L.HOT_BLOCKS + i * 4, true);
      if (this.#keepsHeat(hot)) this.#want(hot);
    }
    if (count > 0) view.setUint32(L.HOT_COUNT, 0, true);
    if (record >= FIRST_RECORD) {
      // Loops link their blocks and are not looked up: a sample stands for many rounds.
      this.#keepsHeat(record);
      const at = record - L.NODE + L.NODE_HEAT;
      view.setUint32(at, view.getUint32(at, true) + this.#sampleHeat, true);
      if (this.#heat(record) >= L.HOT_LOOKUPS) this.#want(record);
    }
    if (this.#samples >= this.#spanEnd) this.#beginSpan();
    this.#samples++;
    this.#lookWhoIsLeft();
    if (this.#waiting.size > 0) this.#askForHottest();
    if (this.#port && !this.#isImproving) this.#improveHottest(this.#port);
  }

  /** A region that is left over and over: accesses that share a look-up are in two pages, perhaps. */
  #lookWhoIsLeft(): void {
    const view = this.#view;
    const left = view.getUint32(L.COUNT_LEFT, true);
    const times = (left - this.#left) >>> 0;
    this.#left = left;
    if (this.#samples % LEFT_WINDOW === 0) this.#leftSamples.clear();
    if (this.#samples % APART_WINDOW === 0) this.#shareAgain();
    if (times < LEFT_OFTEN) return;
    const region = view.getUint32(L.LEFT_REGION, true);
    const samples = (this.#leftSamples.get(region) ?? 0) + 1;
    this.#leftSamples.set(region, samples);
    if (samples < LEFT_SAMPLES || this.#apart.has(region)) return;
    if (!this.#store.swap(region)) {
      if (!this.#store.retire(region)) return;
      this.#waiting.add(region);
      this.#isUrgent = true;
    }
    this.#apart.add(region);
  }

  #shareAgain(): void {
    for (const record of this.#apart) if (this.#store.swap(record)) this.#apart.delete(record);
  }

  /** Regions that are there or asked for. */
  get regions(): number {
    return this.#store.count;
  }

  /** All decoded code is forgotten. */
  reset(): void {
    this.#view.setUint32(L.HOT_COUNT, 0, true);
    this.#waiting.clear();
    this.#improvable.clear();
    this.#waitingSince = undefined;
    this.#isUrgent = false;
    this.#hopeless.clear();
    this.#apart.clear();
    this.#leftSamples.clear();
    this.#store.reset();
    this.#collector.reset();
  }

  #startThread(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    const workerData: TranslatorData = { port: port2, answers: this.#answers.buffer };
    const worker = new Worker(threadFile(new URL('./translator-thread.ts', import.meta.url)), {
      name: 'vivarium_translate',
      workerData,
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION },
    });
    worker.unref();
    port1.unref();
    return port1;
  }

  #want(record: number): void {
    if (!this.#waiting.has(record)) {
      if (this.#hopeless.has(record) || this.#store.revive(record)) return;
      if (this.#store.has(record)) {
        if (this.#heat(record) >= IMPROVE_SAMPLES * SAMPLE_HEAT && this.#store.canImprove(record))
          this.#improvable.add(record);
        return;
      }
      this.#waiting.add(record);
    }
    if (this.#heat(record) >= URGENT_HEAT) this.#isUrgent = true;
  }

  /** Asks for better code of the region that samples have found most often: one after the other, in turn with batches. */
  #improveHottest(port: MessagePort): void {
    let hottest: number | undefined;
    for (const record of this.#improvable)
      if (hottest === undefined || this.#heat(record) > this.#heat(hottest)) hottest = record;
    if (hottest === undefined) return;
    this.#improvable.delete(hottest);
    const slot = this.#store.improve(hottest);
    if (slot === undefined) return;
    this.#isImproving = true;
    port.postMessage(slot);
  }

  #heat(record: number): number {
    return this.#view.getUint32(record - L.NODE + L.NODE_HEAT, true) & L.HEAT_COUNT;
  }

  #beginSpan(): void {
    const asked = this.counts.requested - this.#askedBefore;
    const isWarm = asked < WARM_PART * this.#store.count;
    if (!isWarm || this.#samples >= this.#decision) {
      this.#isWarm = isWarm;
      this.#decision = this.#samples + COLD_SPAN;
      this.#askedBefore = this.counts.requested;
      this.#store.age();
    }
    this.#spanEnd = this.#samples + (this.#isWarm ? WARM_SPAN : COLD_SPAN);
    this.#view.setUint32(L.HEAT_START, ++this.#spans << 24, true);
  }

  /** Whether a block's heat is of this span or the one before; else it begins anew. A region's lasts: it costs nothing to put it back in place. */
  #keepsHeat(record: number): boolean {
    if (this.#store.has(record)) return true;
    const at = record - L.NODE + L.NODE_HEAT;
    const now = this.#view.getUint32(L.HEAT_START, true);
    const spans = ((now >>> 24) - (this.#view.getUint32(at, true) >>> 24)) & 0xff;
    if (spans <= 1) return true;
    this.#view.setUint32(at, now, true);
    return false;
  }

  /** What is hot gets hotter while it waits. */
  #askForHottest(): void {
    while (this.#waiting.size > 0 && (this.#compile || this.#isTimeToAsk())) {
      const hottest = [...this.#waiting];
      if (hottest.length > BATCH_MOST) hottest.sort((a, b) => this.#heat(b) - this.#heat(a)).length = BATCH_MOST;
      const requests: Request[] = [];
      for (const record of hottest) {
        this.#waiting.delete(record);
        const collected = this.#collector.collect(record);
        const slot = collected && this.#store.ask(record, collected);
        if (collected && slot !== undefined) requests.push({ collected, slot, apart: this.#apart.has(record) });
        else this.#hopeless.add(record);
      }
      if (requests.length === 0) continue;
      this.#patience = requests.length < FEW ? Math.min(2 * this.#patience, LONGEST_PATIENCE) : PATIENCE;
      this.counts.requested += requests.length;
      const generation = this.#view.getUint32(L.ARENA_GENERATION, true);
      const batch: Batch = { requests, dropped: this.#store.takeDropped(), generation, counting: this.#counting };
      if (this.#compile) {
        this.#take(this.#compile(batch));
      } else {
        this.#isAsked = true;
        this.#port?.postMessage(batch);
      }
    }
  }

  /** One batch is at the translator's thread at a time, and a full one if it does not take long to fill. */
  #isTimeToAsk(): boolean {
    if (this.#isAsked) return false;
    const now = performance.now();
    this.#waitingSince ??= now;
    const isTime = this.#isUrgent || this.#waiting.size >= BATCH_MOST || now - this.#waitingSince >= this.#patience;
    if (isTime) {
      this.#waitingSince = undefined;
      this.#isUrgent = false;
    }
    return isTime;
  }

  #takeAnswers(port: MessagePort): void {
    for (;;) {
      const answer = receiveMessageOnPort(port)?.message as Answer | 'improved' | undefined;
      if (!answer) return;
      if (answer === 'improved') {
        this.#isImproving = false;
        this.counts.improved++;
        continue;
      }
      this.#isAsked = false;
      this.#take(answer);
    }
  }

  #take({ generation, module, slots, refused, kept, instructions, bytes, milliseconds }: Answer): void {
    const { counts } = this;
    if (module) counts.modules++;
    counts.kept += kept;
    counts.instructions += instructions;
    counts.bytes += bytes;
    counts.milliseconds += milliseconds;
    // Its slots may be somebody else's by now.
    if (generation !== this.#view.getUint32(L.ARENA_GENERATION, true)) return;
    if (module) {
      new WebAssembly.Instance(module, this.#imports as never);
      counts.installed += this.#store.install(slots);
    }
    for (const slot of refused) {
      const record = this.#store.refuse(slot);
      if (record !== undefined) this.#hopeless.add(record);
    }
  }
}
