import * as L from '../../cpu/x86_64/layout.ts';
import type { Processor } from '../../cpu/x86_64/processor.ts';
import type { Exit, GuestDebug } from '../hypervisor.ts';

/** IO_RESUME: INS starts again, with its data. */
const RESUME_INS = 3;
/** DR6.BS. */
const DR6_STEP = 1n << 14n;
/** Data breakpoints that a processor has. */
const MOST_WATCHPOINTS = 4;
const MASK_32 = 0xffffffffn;

/**
 * Runs a vCPU's instructions one by one, where its guest's debug registers and RFLAGS.TF or a debugger outside ask for that.
 * The debugger's breakpoints are met in code that runs freely as well: the decoder knows them.
 */
export class Stepper {
  readonly #cpu: Processor;
  readonly #view: DataView<ArrayBuffer>;
  readonly #breakpoints: Set<bigint>;
  #singleStep = false;
  /** The last exit was for a breakpoint: the instruction there is let through. */
  #passes = false;
  /** An instruction that the debugger waits for has ended with an exit, which goes first. */
  #due = false;

  /** `breakpoints`: the processor's. */
  constructor(cpu: Processor, breakpoints: Set<bigint>) {
    this.#cpu = cpu;
    this.#breakpoints = breakpoints;
    this.#view = cpu.view;
  }

  /** The debugger steps: interrupts wait, or each step would be one of an interrupt handler. */
  get singleStep(): boolean {
    return this.#singleStep;
  }

  /** The next instruction must be run by step(). */
  get active(): boolean {
    return this.#singleStep || this.#passes || (this.#view.getUint32(L.MODE, true) & L.MODE_DEBUG) !== 0;
  }

  /** RangeError for more than four data breakpoints. */
  set({ singleStep, breakpoints, watchpoints }: GuestDebug): void {
    if (watchpoints.length > MOST_WATCHPOINTS) throw new RangeError('four data breakpoints at most');
    this.#singleStep = singleStep;
    this.#breakpoints.clear();
    for (const address of breakpoints) this.#breakpoints.add(address);
    const view = this.#view;
    let dr7 = 0;
    watchpoints.forEach(({ address, length, kind }, i) => {
      const code = length === 8 ? 2 : length - 1;
      view.setBigUint64(L.OUTER_DR + i * 8, address, true);
      dr7 |= (1 << (2 * i)) | ((kind === 'write' ? 1 : 3) << (16 + 4 * i)) | (code << (18 + 4 * i));
    });
    view.setUint32(L.OUTER_DR7, dr7, true);
    view.setUint32(L.OUTER_HIT, 0, true);
    this.#due = false;
    this.#cpu.helpers.update_mode();
    this.#cpu.forgetCode();
  }

  /** One instruction, with the guest's own breakpoints and traps around it. Returns EXIT_*. */
  step(): number {
    if (!this.#singleStep && !this.#passes && this.#breakpoints.has(this.#linear())) return L.EXIT_DEBUG;
    this.#passes = false;
    if (this.#cpu.helpers.check_exec_breakpoint() !== L.STATUS_FAULT) return this.finish(this.runOne());
    const reason = this.#trap();
    return reason === L.EXIT_BUDGET && this.#singleStep ? L.EXIT_DEBUG : reason;
  }

  /** What comes after an instruction that runOne() left with `reason`. Returns EXIT_*. */
  finish(reason: number): number {
    const view = this.#view;
    // An instruction that must start again, or a processor that does not go on.
    if (reason === L.EXIT_MMIO_READ || reason === L.EXIT_SHUTDOWN || reason === L.EXIT_INTERNAL_ERROR) return reason;
    if (reason === L.EXIT_IO_IN && view.getUint32(L.IO_RESUME, true) === RESUME_INS) return reason;
    if (this.#cpu.helpers.debug_trap() === L.STATUS_FAULT && this.#trap() === L.EXIT_SHUTDOWN) return L.EXIT_SHUTDOWN;
    if (!this.#singleStep && view.getUint32(L.OUTER_HIT, true) === 0) return reason;
    if (reason === L.EXIT_BUDGET || reason === L.EXIT_IRQ_WINDOW || reason === L.EXIT_HLT) return L.EXIT_DEBUG;
    this.#due = true;
    return reason;
  }

  /** The debugger's exit that an exit of the same instruction held up. */
  due(): Exit | undefined {
    if (!this.#due) return undefined;
    this.#due = false;
    return this.exit();
  }

  /** The exit for EXIT_DEBUG. */
  exit(): Exit {
    const view = this.#view;
    const hits = BigInt(view.getUint32(L.OUTER_HIT, true));
    view.setUint32(L.OUTER_HIT, 0, true);
    const address = this.#linear();
    const stepped = this.#singleStep ? DR6_STEP : 0n;
    this.#passes = !this.#singleStep && hits === 0n && this.#breakpoints.has(address);
    return { kind: 'debug', address, dr6: hits | stepped };
  }

  /** One instruction, a repeated one as far as it goes when it is not run alone. Returns EXIT_*. */
  runWhole(): number {
    this.#view.setUint32(L.WHOLE_STRINGS, 1, true);
    const reason = this.runOne();
    this.#view.setUint32(L.WHOLE_STRINGS, 0, true);
    return reason;
  }

  /** One instruction; EXIT_BUDGET if nothing else ends it. */
  runOne(): number {
    const view = this.#view;
    view.setUint32(L.MODE, view.getUint32(L.MODE, true) | L.MODE_STEP, true);
    const reason = this.#cpu.pass();
    view.setUint32(L.MODE, view.getUint32(L.MODE, true) & ~L.MODE_STEP, true);
    return reason;
  }

  /** Linear address of the next instruction. */
  #linear(): bigint {
    const view = this.#view;
    const rip = view.getBigUint64(L.RIP, true);
    if ((view.getUint32(L.MODE, true) & L.MODE_CODE_MASK) === L.MODE_CODE64) return rip;
    return (rip + view.getBigUint64(L.SEG_CS + L.SEG_O_BASE, true)) & MASK_32;
  }

  #trap(): number {
    if (this.#cpu.helpers.deliver_exception() !== L.STATUS_EXIT) return L.EXIT_BUDGET;
    return this.#view.getUint32(L.EXIT_REASON, true);
  }
}
