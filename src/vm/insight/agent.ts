import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { Exit, GuestPlace, Vcpu, VcpuInsight } from '../../hypervisor/hypervisor.ts';
import type { Counts, InsightEnd, InsightMessage } from './channel.ts';
import { machineDigest } from './digest.ts';

/** Nanoseconds between two samples. */
const SAMPLE_PERIOD = 1e6;
/** Samples that there is room for at first. */
const FIRST_SAMPLES = 4096;

/** In a vCPU's thread: counts its exits, keeps its samples, and sends them. */
export class InsightAgent {
  readonly #end: InsightEnd;
  readonly #asked: Int32Array;
  #answered = 0;
  readonly #exits = new Map<Exit['kind'], number>();
  /** Time in devices, milliseconds. */
  #deviceTime = 0;
  #start = performance.now();
  #left = 0;
  readonly #samples = new SampleBuffer();

  constructor(end: InsightEnd) {
    this.#end = end;
    this.#asked = new Int32Array(end.asked);
  }

  /** What the vCPU is to be made with. */
  get vcpuInsight(): VcpuInsight {
    const { stats, profile, checkTranslation } = this.#end.wishes;
    return {
      counting: stats,
      ...(profile && { sample: (time, place) => this.#samples.add(time, place), samplePeriod: SAMPLE_PERIOD }),
      ...(checkTranslation && { mismatch: (report) => this.#send({ kind: 'mismatch', report }) }),
    };
  }

  /** The vCPU begins. */
  start(): void {
    this.#start = performance.now();
  }

  /** The guest was left, and somebody takes care of why. */
  left(kind: Exit['kind']): void {
    if (!this.#end.wishes.stats) return;
    this.#exits.set(kind, (this.#exits.get(kind) ?? 0) + 1);
    this.#left = performance.now();
  }

  /** That is done. Answers when statistics have been asked for. */
  done(vcpu: Vcpu): void {
    if (!this.#end.wishes.stats) return;
    this.#deviceTime += performance.now() - this.#left;
    const asked = Atomics.load(this.#asked, 0);
    if (asked === this.#answered) return;
    this.#answered = asked;
    this.#send({ kind: 'stats', counts: this.#counts(vcpu) });
  }

  /** The vCPU ends. With `memory`, a digest of it and the registers is sent, too. */
  end(vcpu: Vcpu, memory: GuestMemory | undefined): void {
    const { stats } = this.#end.wishes;
    if (stats) this.#send({ kind: 'stats', counts: this.#counts(vcpu) });
    if (stats && memory) this.#send({ kind: 'digest', digest: machineDigest(vcpu, memory) });
    if (this.#end.wishes.profile) this.#send({ kind: 'samples', samples: this.#samples.columns() });
    this.#end.port.close();
  }

  #counts(vcpu: Vcpu): Counts {
    return {
      'time ms': performance.now() - this.#start,
      '  in devices ms': this.#deviceTime,
      ...vcpu.counts(),
      ...Object.fromEntries([...this.#exits].map(([kind, count]) => [`exits: ${kind}`, count])),
    };
  }

  #send(message: InsightMessage): void {
    this.#end.port.postMessage(message);
  }
}

/** Columns that grow. */
class SampleBuffer {
  #times = new Float64Array(FIRST_SAMPLES);
  #places = new BigUint64Array(FIRST_SAMPLES);
  #spaces = new BigUint64Array(FIRST_SAMPLES);
  #length = 0;

  add(time: number, place: GuestPlace | undefined): void {
    if (this.#length === this.#times.length) this.#grow();
    this.#times[this.#length] = time;
    this.#places[this.#length] = place?.ip ?? 0n;
    this.#spaces[this.#length] = place?.user ? place.cr3 : 0n;
    this.#length++;
  }

  columns(): { times: Float64Array; places: BigUint64Array; spaces: BigUint64Array } {
    const length = this.#length;
    return {
      times: this.#times.slice(0, length),
      places: this.#places.slice(0, length),
      spaces: this.#spaces.slice(0, length),
    };
  }

  #grow(): void {
    const { times, places, spaces } = this.columns();
    const length = 2 * times.length;
    this.#times = new Float64Array(length);
    this.#places = new BigUint64Array(length);
    this.#spaces = new BigUint64Array(length);
    this.#times.set(times);
    this.#places.set(places);
    this.#spaces.set(spaces);
  }
}
