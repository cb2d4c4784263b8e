/** The page that a vCPU shares with the kernel (struct kvm_run), and the exits that it tells of. */

import { get, set } from '../../host/struct.ts';
import type { Exit } from '../hypervisor.ts';
import * as K from './constants.ts';
import { kvm_run } from './structs.ts';

const EXIT_REASON = kvm_run.fields.exit_reason[0];
const IO_DIRECTION = kvm_run.fields['io.direction'][0];
const IO_SIZE = kvm_run.fields['io.size'][0];
const IO_PORT = kvm_run.fields['io.port'][0];
const IO_COUNT = kvm_run.fields['io.count'][0];
const IO_DATA_OFFSET = kvm_run.fields['io.data_offset'][0];
const MMIO_ADDRESS = kvm_run.fields['mmio.phys_addr'][0];
const MMIO_DATA = kvm_run.fields['mmio.data'][0];
const MMIO_LENGTH = kvm_run.fields['mmio.len'][0];
const MMIO_IS_WRITE = kvm_run.fields['mmio.is_write'][0];
const MMIO_MOST = kvm_run.fields['mmio.data'][2];
const READY_FOR_INTERRUPT = kvm_run.fields.ready_for_interrupt_injection[0];
const REQUEST_INTERRUPT_WINDOW = kvm_run.fields.request_interrupt_window[0];
const IMMEDIATE_EXIT = kvm_run.fields.immediate_exit[0];

/** What an access that nobody answers reads, each byte. */
const NOBODY = 0xff;

/** Has the guest's instruction been carried out when its exit has been handled? `write`: all but its last step. */
export type Completion = 'complete' | 'read' | 'write';

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Of<K extends Exit['kind']> = Writable<Extract<Exit, { kind: K }>>;

const NONE = new Uint8Array();

/**
 * struct kvm_run of one vCPU. String instructions (INS, OUTS) leave the kernel with many elements at once, which are
 * handed out one by one.
 */
export class RunPage {
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  /** Bytes of an MMIO access, by length. */
  readonly #mmioData: readonly Uint8Array[];
  readonly #ioIn: Of<'io-in'> = { kind: 'io-in', port: 0, data: NONE };
  readonly #ioOut: Of<'io-out'> = { kind: 'io-out', port: 0, data: NONE };
  readonly #mmioRead: Of<'mmio-read'> = { kind: 'mmio-read', address: 0, data: NONE };
  readonly #mmioWrite: Of<'mmio-write'> = { kind: 'mmio-write', address: 0, data: NONE };
  /** Bytes of the last port access, and where they are: most exits are like the one before. */
  #ioData: Uint8Array = NONE;
  #ioAt = -1;
  /** Elements of a string instruction not handed out yet. */
  #left = 0;
  completion: Completion = 'complete';

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#mmioData = Array.from({ length: MMIO_MOST + 1 }, (_, length) =>
      bytes.subarray(MMIO_DATA, MMIO_DATA + length),
    );
  }

  /** Makes the next KVM_RUN come back before the guest's next instruction. */
  set immediateExit(on: boolean) {
    this.#bytes[IMMEDIATE_EXIT] = on ? 1 : 0;
  }

  /** Would the processor take an interrupt that KVM_INTERRUPT gives it now? */
  get readyForInterrupt(): boolean {
    return this.#bytes[READY_FOR_INTERRUPT] !== 0;
  }

  /** Makes KVM_RUN come back when the processor takes interrupts. */
  set requestInterruptWindow(on: boolean) {
    this.#bytes[REQUEST_INTERRUPT_WINDOW] = on ? 1 : 0;
  }

  get reason(): number {
    return this.view.getUint32(EXIT_REASON, true);
  }

  /** Is there more of the last exit? */
  get hasMore(): boolean {
    return this.#left > 0;
  }

  /** The next element of a string instruction. */
  next(): Exit {
    return this.#io(this.#ioAt + this.#ioData.length);
  }

  /** A port or memory access; undefined for every other exit. */
  access(): Exit | undefined {
    switch (this.reason) {
      case K.KVM_EXIT_IO:
        this.#left = this.view.getUint32(IO_COUNT, true);
        return this.#io(Number(this.view.getBigUint64(IO_DATA_OFFSET, true)));
      case K.KVM_EXIT_MMIO:
        return this.#mmio();
      default:
        return undefined;
    }
  }

  #io(at: number): Exit {
    const { view } = this;
    const size = view.getUint8(IO_SIZE);
    if (at !== this.#ioAt || size !== this.#ioData.length) {
      if (size === 0 || at + size > this.#bytes.length)
        throw new RangeError('KVM gives the data of a port outside of its page');
      this.#ioData = this.#bytes.subarray(at, at + size);
      this.#ioAt = at;
    }
    this.#left--;
    const out = view.getUint8(IO_DIRECTION) === K.KVM_EXIT_IO_OUT;
    this.completion = out ? 'write' : 'read';
    const exit = out ? this.#ioOut : this.#ioIn;
    exit.port = view.getUint16(IO_PORT, true);
    exit.data = out ? this.#ioData : this.#ioData.fill(NOBODY);
    return exit;
  }

  #mmio(): Exit {
    const { view } = this;
    const data = this.#mmioData[view.getUint32(MMIO_LENGTH, true)];
    if (data === undefined) throw new RangeError('KVM gives an access to memory of more than 8 bytes');
    const write = view.getUint8(MMIO_IS_WRITE) !== 0;
    this.completion = write ? 'write' : 'read';
    const exit = write ? this.#mmioWrite : this.#mmioRead;
    exit.address = Number(view.getBigUint64(MMIO_ADDRESS, true));
    exit.data = write ? data : data.fill(NOBODY);
    return exit;
  }

  /** Vector of the level-triggered interrupt that a local APIC has ended, where the exit tells of that. */
  get endOfInterrupt(): number | undefined {
    if (this.reason !== K.KVM_EXIT_IOAPIC_EOI) return undefined;
    this.completion = 'complete';
    return get(kvm_run, this.view, 'eoi.vector');
  }

  /** An exit that is no access; undefined where the guest just goes on. */
  event(): Exit | { readonly kind: 'unexplained' } | undefined {
    this.completion = 'complete';
    const { view } = this;
    switch (this.reason) {
      case K.KVM_EXIT_HLT:
        return { kind: 'hlt' };
      case K.KVM_EXIT_SHUTDOWN:
        return { kind: 'shutdown' };
      case K.KVM_EXIT_DEBUG: {
        const dr6 = get(kvm_run, view, 'debug.arch.dr6');
        return { kind: 'debug', address: get(kvm_run, view, 'debug.arch.pc'), dr6 };
      }
      case K.KVM_EXIT_SYSTEM_EVENT:
        return systemEvent(get(kvm_run, view, 'system_event.type'));
      case K.KVM_EXIT_INTR:
      case K.KVM_EXIT_IRQ_WINDOW_OPEN:
        return undefined;
      default:
        return { kind: 'unexplained' };
    }
  }

  /** Forgets the rest of an exit: the state was set anew. */
  drop(): void {
    this.#left = 0;
    this.completion = 'complete';
    set(kvm_run, this.view, 'exit_reason', K.KVM_EXIT_INTR);
  }
}

function systemEvent(type: number): Exit | { readonly kind: 'unexplained' } {
  switch (type) {
    case K.KVM_SYSTEM_EVENT_SHUTDOWN:
      return { kind: 'system-event', event: 'shutdown' };
    case K.KVM_SYSTEM_EVENT_RESET:
      return { kind: 'system-event', event: 'reset' };
    case K.KVM_SYSTEM_EVENT_CRASH:
      return { kind: 'system-event', event: 'crash' };
    default:
      return { kind: 'unexplained' };
  }
}
