/** One GDB's conversation: packets in, packets out, whatever carries them. All-stop mode; vCPU n is GDB's thread n + 1. */

import { encodePacket, fromHex, PACKET_SIZE, PacketReader, toHex } from './packet.ts';
import { REGISTER_COUNT, readAll, readRegister, TARGET_XML, writeAll, writeRegister } from './registers.ts';
import type { CpuState, DebugTarget, ResumeAction, Stop, StopPoints, Watchpoint } from './target.ts';

const SIGINT = '02';
const SIGTRAP = '05';

/** Error replies: GDB shows the number only. */
const E_INVALID = 'E16';
const E_FAULT = 'E0e';

const FEATURES = `PacketSize=${PACKET_SIZE.toString(16)};qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+`;

/** What the session needs of its connection. */
export interface SessionConnection {
  send(bytes: Uint8Array): void;
  close(): void;
}

const hexNumber = (text: string | undefined): number =>
  text !== undefined && /^[0-9a-f]+$/i.test(text) ? Number.parseInt(text, 16) : Number.NaN;
const hexBig = (text: string | undefined): bigint | undefined =>
  text !== undefined && /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;

/** Addresses in the order they were set, by key. */
type Points<T> = Map<string, T>;

export class GdbSession {
  readonly #target: DebugTarget;
  readonly #connection: SessionConnection;
  readonly #reader = new PacketReader();
  readonly #breakpoints: Points<{ readonly address: bigint; readonly hardware: boolean }> = new Map();
  readonly #watchpoints: Points<Watchpoint> = new Map();
  /** Registers of stopped vCPUs, so that GDB's register after register costs one question. */
  readonly #states = new Map<number, CpuState>();
  #acknowledges = true;
  #lastSent: Uint8Array | undefined;
  /** vCPU of `g`, `m` and their like. */
  #current = 0;
  /** GDB waits for a stop reply. */
  #waiting = false;
  /** Stopped by GDB's interrupt, not by itself. */
  #interrupted = false;
  #closed = false;
  /** Packets are served one after the other. */
  #work: Promise<void> = Promise.resolve();

  /** Takes the target over, and stops it. */
  constructor(target: DebugTarget, connection: SessionConnection) {
    this.#target = target;
    this.#connection = connection;
    target.listener = {
      stopped: (stop) => this.#stopped(stop),
      ended: (status) => this.#ended(status),
    };
    target.pause();
  }

  /** Bytes that came from GDB. */
  receive(bytes: Uint8Array): void {
    for (const input of this.#reader.push(bytes)) {
      switch (input.kind) {
        case 'packet':
          if (this.#acknowledges) this.#connection.send(Buffer.from('+'));
          this.#work = this.#work.then(() => this.#packet(input.data));
          break;
        case 'damaged':
          if (this.#acknowledges) this.#connection.send(Buffer.from('-'));
          break;
        case 'nack':
          if (this.#lastSent !== undefined) this.#connection.send(this.#lastSent);
          break;
        case 'interrupt':
          this.#interrupted = true;
          this.#target.pause();
          break;
        case 'ack':
          break;
      }
    }
  }

  /** The connection has gone: the machine runs on without stops, when it can. */
  async disconnected(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#work;
    await this.#detach();
  }

  #send(data: string | Uint8Array): void {
    if (this.#closed) return;
    this.#lastSent = encodePacket(data);
    this.#connection.send(this.#lastSent);
  }

  async #packet(data: Uint8Array): Promise<void> {
    if (this.#closed) return;
    const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('latin1');
    try {
      const reply = await this.#serve(text, data);
      if (reply !== undefined) this.#send(reply);
    } catch {
      // The machine refused: no such memory, too many breakpoints, ended.
      this.#send(E_FAULT);
    }
  }

  /** Serves a packet; undefined: there is no reply now. An empty reply says that the packet is not known. */
  async #serve(text: string, data: Uint8Array): Promise<string | Uint8Array | undefined> {
    const rest = text.slice(1);
    switch (text[0]) {
      case '?':
        return this.#report();
      case 'g':
        return toHex(readAll(await this.#state(this.#current)));
      case 'G':
        return this.#change((state) => {
          const bytes = fromHex(rest);
          return bytes !== undefined && writeAll(state, bytes);
        });
      case 'p': {
        const bytes = readRegister(await this.#state(this.#current), hexNumber(rest));
        return bytes === undefined ? E_INVALID : toHex(bytes);
      }
      case 'P':
        return this.#writeRegister(rest);
      case 'm':
        return this.#readMemory(rest);
      case 'M': {
        const [where, bytes] = splitOnce(rest, ':');
        return this.#writeMemory(where, fromHex(bytes));
      }
      case 'X':
        return this.#writeMemory(splitOnce(rest, ':')[0], data.subarray(text.indexOf(':') + 1));
      case 'Z':
      case 'z':
        return this.#stopPoint(text[0] === 'Z', rest);
      case 'H':
        return this.#chooseThread(rest);
      case 'T':
        return this.#vcpuOf(rest) === undefined ? E_INVALID : 'OK';
      case 'c':
      case 's':
        return this.#resumeAt(text[0] === 's' ? 'step' : 'continue', rest);
      case 'C':
      case 'S':
        // A guest takes no signals: the signal is dropped.
        return this.#resumeAt(text[0] === 'S' ? 'step' : 'continue', splitOnce(rest, ';')[1]);
      case 'v':
        return this.#verbose(text);
      case 'q':
      case 'Q':
        return this.#query(text);
      case 'D':
        return this.#leave();
      case 'k':
        this.#target.kill();
        return undefined;
      default:
        return '';
    }
  }

  // ---- Registers and memory ------------------------------------------------------------------------------------------

  async #state(vcpu: number): Promise<CpuState> {
    let state = this.#states.get(vcpu);
    if (state === undefined) {
      state = await this.#target.getState(vcpu);
      this.#states.set(vcpu, state);
    }
    return state;
  }

  async #change(change: (state: CpuState) => boolean): Promise<string> {
    const vcpu = this.#current;
    const state = await this.#state(vcpu);
    // Whatever comes of it, the truth is asked for anew.
    this.#states.delete(vcpu);
    if (!change(state)) return E_INVALID;
    await this.#target.setState(vcpu, state);
    return 'OK';
  }

  async #writeRegister(text: string): Promise<string> {
    const [number, value] = splitOnce(text, '=');
    const bytes = fromHex(value);
    if (bytes === undefined || !(hexNumber(number) < REGISTER_COUNT)) return E_INVALID;
    return this.#change((state) => writeRegister(state, hexNumber(number), bytes));
  }

  async #readMemory(text: string): Promise<string> {
    const [addressText, lengthText] = splitOnce(text, ',');
    const address = hexBig(addressText);
    const length = hexNumber(lengthText);
    if (address === undefined || Number.isNaN(length)) return E_INVALID;
    if (length === 0) return '';
    // Each byte takes two digits of the reply.
    const bytes = await this.#target.readMemory(this.#current, address, Math.min(length, PACKET_SIZE / 2));
    return bytes.length === 0 ? E_FAULT : toHex(bytes);
  }

  async #writeMemory(where: string, bytes: Uint8Array | undefined): Promise<string> {
    const [addressText, lengthText] = splitOnce(where, ',');
    const address = hexBig(addressText);
    if (address === undefined || bytes === undefined || bytes.length !== hexNumber(lengthText)) return E_INVALID;
    if (bytes.length > 0) await this.#target.writeMemory(this.#current, address, bytes);
    return 'OK';
  }

  // ---- Stop points -----------------------------------------------------------------------------------------------------

  async #stopPoint(insert: boolean, text: string): Promise<string> {
    const [type, addressText, kindText] = text.split(/[,;]/);
    const address = hexBig(addressText);
    const length = hexNumber(kindText);
    if (type === undefined || address === undefined || Number.isNaN(length)) return E_INVALID;
    const key = `${type},${address},${length}`;
    const points: Points<unknown> = type === '0' || type === '1' ? this.#breakpoints : this.#watchpoints;
    const had = points.get(key);
    if (!insert) points.delete(key);
    else if (type === '0' || type === '1') this.#breakpoints.set(key, { address, hardware: type === '1' });
    else if (type !== '2' && type !== '3' && type !== '4') return '';
    else if (![1, 2, 4, 8].includes(length) || address % BigInt(length) !== 0n) return E_INVALID;
    // The processor has no watchpoint for reads alone: type 3 sees writes as well, as on every x86.
    else this.#watchpoints.set(key, { address, length, kind: type === '2' ? 'write' : 'access' });
    try {
      await this.#target.setStopPoints(this.#stopPoints());
    } catch (error) {
      if (insert && had === undefined) points.delete(key);
      throw error;
    }
    return 'OK';
  }

  #stopPoints(): StopPoints {
    const breakpoints = new Set([...this.#breakpoints.values()].map(({ address }) => address));
    return { breakpoints: [...breakpoints], watchpoints: [...this.#watchpoints.values()] };
  }

  // ---- Running -----------------------------------------------------------------------------------------------------------

  async #resumeAt(action: ResumeAction, addressText: string): Promise<string | undefined> {
    const address = hexBig(addressText);
    if (addressText !== '' && address === undefined) return E_INVALID;
    if (address !== undefined) {
      await this.#change((state) => {
        state.regs.rip = address;
        return true;
      });
    }
    const others = [...this.#vcpus()].filter((vcpu) => vcpu !== this.#current);
    return this.#resume(new Map([[this.#current, action], ...others.map((vcpu) => [vcpu, 'continue'] as const)]));
  }

  #resume(actions: ReadonlyMap<number, ResumeAction>): undefined {
    this.#states.clear();
    this.#waiting = true;
    this.#interrupted = false;
    this.#target.resume(actions);
  }

  async #verbose(text: string): Promise<string | undefined> {
    if (text === 'vCont?') return 'vCont;c;C;s;S';
    if (!text.startsWith('vCont;')) return '';
    const actions = new Map<number, ResumeAction>();
    for (const part of text.slice('vCont;'.length).split(';')) {
      const [action, thread] = splitOnce(part, ':');
      const kind = /^(c|C[0-9a-f]{2})$/i.test(action)
        ? 'continue'
        : /^(s|S[0-9a-f]{2})$/i.test(action)
          ? 'step'
          : undefined;
      if (kind === undefined) return E_INVALID;
      const all = thread === '' || thread === '-1';
      const vcpu = this.#vcpuOf(thread);
      if (!all && vcpu === undefined) return E_INVALID;
      // The leftmost action that names a thread is its own.
      for (const n of all ? this.#vcpus() : [vcpu as number]) if (!actions.has(n)) actions.set(n, kind);
    }
    return this.#resume(actions);
  }

  #stopped(stop: Stop): void {
    this.#current = stop.vcpu;
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#send(this.#stopReply(stop));
  }

  /** The answer to `?`: why the machine is stopped, now or as soon as it is. */
  #report(): string | undefined {
    const { stop } = this.#target;
    if (stop === undefined) {
      this.#waiting = true;
      return undefined;
    }
    this.#current = stop.vcpu;
    return this.#stopReply(stop);
  }

  #stopReply({ vcpu, reason }: Stop): string {
    const thread = `thread:${(vcpu + 1).toString(16)};`;
    switch (reason.kind) {
      case 'paused':
        return `T${this.#interrupted ? SIGINT : SIGTRAP}${thread}`;
      case 'step':
        return `T${SIGTRAP}${thread}`;
      case 'breakpoint': {
        const hardware = [...this.#breakpoints.values()].some(
          (point) => point.hardware && point.address === reason.address,
        );
        return `T${SIGTRAP}${thread}${hardware ? 'hwbreak' : 'swbreak'}:;`;
      }
      case 'watchpoint': {
        const { address, length, kind } = reason.watchpoint;
        const reads = this.#watchpoints.has(`3,${address},${length}`);
        const name = kind === 'write' ? 'watch' : reads ? 'rwatch' : 'awatch';
        return `T${SIGTRAP}${thread}${name}:${address.toString(16)};`;
      }
    }
  }

  #ended(status: number): void {
    this.#send(`W${(status & 0xff).toString(16).padStart(2, '0')}`);
    this.#closed = true;
    this.#connection.close();
  }

  async #leave(): Promise<undefined> {
    this.#send('OK');
    this.#closed = true;
    await this.#detach();
    this.#connection.close();
  }

  /** Stops the machine if it runs, takes all stop points away, and lets it go. */
  async #detach(): Promise<void> {
    const target = this.#target;
    if (target.stop === undefined) {
      await new Promise<void>((resolve) => {
        target.listener = { stopped: () => resolve(), ended: () => resolve() };
        target.pause();
      });
    }
    target.listener = undefined;
    try {
      await target.setStopPoints({ breakpoints: [], watchpoints: [] });
    } catch {
      // The machine has ended.
      return;
    }
    target.resume(new Map([...this.#vcpus()].map((vcpu) => [vcpu, 'continue'])));
  }

  // ---- Threads and questions -------------------------------------------------------------------------------------------------

  #vcpus(): IterableIterator<number> {
    return Array(this.#target.vcpuCount).keys();
  }

  /** vCPU of a thread number in a packet. */
  #vcpuOf(thread: string): number | undefined {
    const number = hexNumber(thread);
    return number >= 1 && number <= this.#target.vcpuCount ? number - 1 : undefined;
  }

  #chooseThread(text: string): string {
    const thread = text.slice(1);
    // 0: any thread; -1: all, which only resuming could mean.
    if (thread === '0' || thread === '-1') return 'OK';
    const vcpu = this.#vcpuOf(thread);
    if (vcpu === undefined) return E_INVALID;
    this.#current = vcpu;
    return 'OK';
  }

  #query(text: string): string | undefined {
    const [name, ...rest] = text.split(/[:,]/);
    switch (name) {
      case 'qSupported':
        return FEATURES;
      case 'QStartNoAckMode':
        this.#acknowledges = false;
        return 'OK';
      case 'qXfer':
        return this.#transfer(rest);
      case 'qAttached':
        return '1';
      case 'qC':
        return `QC${(this.#current + 1).toString(16)}`;
      case 'qfThreadInfo':
        return `m${[...this.#vcpus()].map((vcpu) => (vcpu + 1).toString(16)).join(',')}`;
      case 'qsThreadInfo':
        return 'l';
      case 'qThreadExtraInfo': {
        const vcpu = this.#vcpuOf(rest[0] ?? '');
        return vcpu === undefined ? E_INVALID : toHex(Buffer.from(`vCPU ${vcpu}`));
      }
      default:
        return '';
    }
  }

  /** qXfer:features:read:ANNEX:OFFSET,LENGTH. */
  #transfer([object, action, annex, offsetText, lengthText]: readonly string[]): string {
    if (object !== 'features' || action !== 'read') return '';
    if (annex !== 'target.xml') return 'E00';
    const offset = hexNumber(offsetText);
    const length = hexNumber(lengthText);
    if (Number.isNaN(offset) || Number.isNaN(length)) return E_INVALID;
    const part = TARGET_XML.slice(offset, offset + Math.min(length, PACKET_SIZE / 2));
    return `${offset + part.length < TARGET_XML.length ? 'm' : 'l'}${part}`;
  }
}

/** The parts before and after the first `separator`; the second is empty where there is none. */
function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
