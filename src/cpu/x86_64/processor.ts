import { wishHugePages } from '../../host/memory.ts';
import { randomU64 } from '../../host/random.ts';
import { BlockBuilder } from './decode/blocks.ts';
import { writeFloatTests } from './float-tests.ts';
import { TranslationChecker } from './jit/checker.ts';
import { type Compile, type TranslationCounts, Translator } from './jit/translator.ts';
import * as L from './layout.ts';
import { processorModules } from './modules.ts';

/** What the processor asks of the machine around it, besides memory. Addresses and data are in the state (layout.ts). */
export interface ProcessorHost {
  /** An access to guest-physical memory outside the slots. True when done. */
  mmio(write: boolean): boolean;
  pio(write: boolean): boolean;
  /** MSR_* results. */
  readMsr(index: number): number;
  writeMsr(index: number): number;
  /** The host's counter into HOST_VALUE. */
  tsc(): void;
  cr8(write: boolean): void;
  log(code: number, value: bigint): void;
  /** Linear addresses where a debugger wants the guest to stop: EXIT_DEBUG. A change needs forgetCode(). */
  readonly breakpoints: ReadonlySet<bigint>;
  /** 64 bits for RDRAND and RDSEED; the host's when it is not there. */
  random?(): bigint;
}

/** Exports of helpers.wasm that TypeScript calls. */
export interface HelperExports {
  update_mode(): void;
  /** 0: power-up, 1: INIT. */
  reset_state(init: number): void;
  sipi(vector: number): void;
  get_rflags(): number;
  set_rflags(value: number): void;
  deliver_exception(): number;
  deliver_interrupt(vector: number, kind: number): number;
  check_exec_breakpoint(): number;
  debug_trap(): number;
  interruptible(): number;
  nmi_interruptible(): number;
  /** Guest-physical address, all ones where nothing is mapped. */
  debug_translate(linear: bigint): bigint;
  tlb_flush(all: number): void;
  tlb_fill(linear: bigint, access: number, mode: number): number;
  code_page_protect(host: number): void;
  rdmsr(): number;
  wrmsr(): number;
}

/** How code becomes WebAssembly regions: by a thread beside this one; by this one, with compile.ts, whatever is sampled; not at all. */
export type Translation = 'thread' | Compile | 'none';

/** What a processor has done since it was made. Times are milliseconds, and 0 unless it counts. */
export interface ProcessorCounts {
  /** Retired; a repeated string instruction is one each time it is started. */
  readonly instructions: number;
  readonly translated: number;
  readonly decodedBlocks: number;
  readonly decodedInstructions: number;
  readonly decodeTime: number;
  readonly invalidatedBlocks: number;
  readonly tlbMisses: number;
  readonly tlbFlushes: number;
  readonly exceptions: number;
  readonly interrupts: number;
  readonly regions: TranslationCounts | undefined;
}

/** What a processor tells of itself. */
export interface ProcessorInsight {
  /** counts() tells also what costs something to count. */
  readonly counting?: boolean | undefined;
  /** Translated code is compared with the interpreter; called with a line about each difference. */
  readonly mismatch?: ((report: string) => void) | undefined;
}

/** The golden section of 0x10000: steps of it spread evenly. */
const JITTER_STEP = 0x9e37;
/** Translated regions that are kept at a time. */
const MOST_REGIONS = 45_056;

/** One x86-64 processor: its memory, the helpers, the interpreter. */
export class Processor {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly helpers: HelperExports;
  readonly #interpret: (budget: number) => number;
  readonly #translator: Translator | undefined;
  readonly blocks: BlockBuilder;
  /** Instructions between two samples, looks at which code is hot, at most. */
  sampleInterval = 10_000;
  readonly #counting: boolean;
  #instructions = 0;
  /** Instructions since the last sample. Exits are no new beginning: a guest that works with devices has one every few thousand. */
  #sinceSample = 0;
  #jitter = 0;
  /** Budget of the run that is under way. */
  #given: number | undefined;
  #decodeTime = 0;

  readonly #checker: TranslationChecker | undefined;

  /** `mostRegions`: translated regions that are kept at a time. */
  constructor(
    host: ProcessorHost,
    translation: Translation = 'thread',
    insight: ProcessorInsight = {},
    mostRegions: number = MOST_REGIONS,
  ) {
    const { counting = false, mismatch } = insight;
    this.#counting = counting;
    // Grown: V8 collects garbage before it makes so large a memory at once.
    this.memory = new WebAssembly.Memory({ initial: 0, maximum: L.MEMORY_PAGES });
    this.memory.grow(L.MEMORY_PAGES);
    const buffer = this.memory.buffer as ArrayBuffer;
    // Decoded code is read all over: fewer misses of the host's TLB, and fewer page faults while it grows.
    wishHugePages(buffer, L.ARENA, L.ARENA_END - L.ARENA);
    wishHugePages(buffer, L.BLOCK_HASH, L.CODE_PAGES_END - L.BLOCK_HASH);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    writeFloatTests(this.bytes);
    const { helpers, interpreter } = processorModules();
    const imports = {
      host_mmio: (write: number) => {
        this.#checker?.outside();
        return host.mmio(write !== 0) ? 1 : 0;
      },
      host_pio: (write: number) => {
        this.#checker?.outside();
        return host.pio(write !== 0) ? 1 : 0;
      },
      host_rdmsr: (index: number) => {
        this.#checker?.outside();
        return host.readMsr(index >>> 0);
      },
      host_wrmsr: (index: number) => {
        this.#checker?.outside();
        return host.writeMsr(index >>> 0);
      },
      host_tsc: () => {
        this.#checker?.outside();
        host.tsc();
      },
      host_cr8: (write: number) => {
        this.#checker?.outside();
        host.cr8(write !== 0);
      },
      host_page_written: (address: number) => this.#checker?.pageWritten(address >>> 0),
      host_random: () => {
        this.#checker?.outside();
        this.view.setBigUint64(L.HOST_VALUE, host.random?.() ?? randomU64(), true);
      },
    };
    const env = { memory: this.memory, abort: () => host.log(0, 0n) };
    const helperInstance = new WebAssembly.Instance(helpers, { env, host: imports });
    this.helpers = helperInstance.exports as unknown as HelperExports;
    this.blocks = new BlockBuilder(buffer, {
      translateCode: (linear) => this.helpers.tlb_fill(linear, 2, this.view.getUint32(L.MMU_MODE, true)) >>> 0,
      protectPage: (address) => this.helpers.code_page_protect(address),
      reset: () => this.forgetCode(),
      breakpoints: host.breakpoints,
    });
    const engine = new WebAssembly.Instance(interpreter, {
      env,
      helpers: helperInstance.exports,
      host: { decode: (address: number) => this.#decode(address >>> 0) },
    });
    this.#interpret = engine.exports['run'] as (budget: number) => number;
    const table = engine.exports['table'] as WebAssembly.Table;
    const surroundings = { memory: this.memory, table, helpers: helperInstance.exports };
    if (translation !== 'none') {
      const compile = translation === 'thread' ? undefined : translation;
      this.#translator = new Translator(surroundings, compile, counting, mostRegions);
    }
    if (mismatch) {
      this.#checker = new TranslationChecker({
        bytes: this.bytes,
        view: this.view,
        helpers: this.helpers,
        interpret: this.#interpret,
        forgetCode: () => this.forgetCode(),
        mismatch,
      });
    }
    this.forgetTranslations();
  }

  /** Runs about `budget` instructions; returns EXIT_*. */
  run(budget: number): number {
    for (let left = budget; ; ) {
      const before = this.#instructions;
      const reason = this.#enter(Math.min(left, Math.max(this.sampleInterval - this.#sinceSample, 1)));
      const ran = this.#instructions - before;
      left -= ran;
      this.#sinceSample += ran;
      // Nothing ran: the guest is to be stepped.
      if (reason !== L.EXIT_BUDGET || ran === 0) return reason;
      if (this.#sinceSample >= this.sampleInterval) {
        this.#sinceSample = this.#sampleJitter();
        this.#translator?.sample(this.view.getUint32(L.LAST_RECORD, true));
      }
      if (left <= 0) return reason;
    }
  }

  /** Instructions by which the next sample comes early: a loop whose rounds divide the interval would be met in the same block each time. */
  #sampleJitter(): number {
    this.#jitter = (this.#jitter + JITTER_STEP) & 0xffff;
    return Math.floor((this.sampleInterval / 8) * (this.#jitter / 0x10000));
  }

  /** Runs to the next look-up or taken branch; with MODE_STEP, one instruction. Returns EXIT_*. */
  pass(): number {
    return this.#enter(0);
  }

  /** Retired so far. In the callbacks for RDTSC, RDMSR and WRMSR their instruction counts already; in others this is not right. */
  get instructions(): number {
    return this.#instructions + (this.#given === undefined ? 0 : this.#given - this.view.getInt32(L.BUDGET, true));
  }

  #enter(budget: number): number {
    this.#given = budget;
    const reason = this.#checker ? this.#checker.run(budget) : this.#interpret(budget);
    this.#instructions = this.instructions;
    this.#given = undefined;
    return reason;
  }

  counts(): ProcessorCounts {
    const count = (address: number): number => Number(this.view.getBigUint64(address, true));
    return {
      instructions: this.#instructions,
      translated: count(L.COUNT_TRANSLATED),
      decodedBlocks: this.blocks.decodedBlocks,
      decodedInstructions: this.blocks.decodedInstructions,
      decodeTime: this.#decodeTime,
      invalidatedBlocks: count(L.COUNT_INVALIDATED_BLOCKS),
      tlbMisses: count(L.COUNT_TLB_MISSES),
      tlbFlushes: count(L.COUNT_TLB_FLUSHES),
      exceptions: count(L.COUNT_EXCEPTIONS),
      interrupts: count(L.COUNT_INTERRUPTS),
      regions: this.#translator?.counts,
    };
  }

  /** Translated regions that are there or asked for. */
  get regions(): number {
    return this.#translator?.regions ?? 0;
  }

  /** Drops all decoded code. */
  forgetCode(): void {
    this.blocks.reset();
    this.#translator?.reset();
    this.#checker?.forget();
    // Pages may be written the short way again.
    this.forgetTranslations();
  }

  forgetTranslations(): void {
    this.helpers.tlb_flush(1);
  }

  #decode(host: number): number {
    const { view } = this;
    const rip = view.getBigUint64(L.RIP, true);
    const long = (view.getUint32(L.MODE, true) & L.MODE_CODE_MASK) === L.MODE_CODE64;
    const linear = long ? rip : (rip + view.getBigUint64(L.SEG_CS + L.SEG_O_BASE, true)) & 0xffffffffn;
    if (!this.#counting) return this.blocks.build(host, linear);
    const start = performance.now();
    const record = this.blocks.build(host, linear);
    this.#decodeTime += performance.now() - start;
    return record;
  }
}
