// The low memory policy, by a clock that the test moves: fixed times first, then hours of a host whose memory comes and goes, beside
// the seed's loop written down with its timers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HostMemory, LowMemoryPolicy, largestBalloon } from '../../../src/control/low-memory/policy.ts';
import { randomSource } from '../../guest/random.ts';

const MIB = 2 ** 20;
const HOUR = 3_600_000;

class Balloon {
  target = 0;
  readonly set: number[] = [];
  setTarget(size: number): void {
    this.target = size;
    this.set.push(size);
  }
}

/** A policy of a guest of 2 GiB: it may lose 1 GiB, in steps of 64 MiB. */
function policy(jitter: readonly number[], host: () => HostMemory = () => ({ available: 0, margin: 0 })) {
  const balloon = new Balloon();
  const rest = [...jitter];
  const limits: number[] = [];
  const random = (limit: number): number => {
    limits.push(limit);
    return rest.shift()!;
  };
  return { balloon, limits, machine: new LowMemoryPolicy({ ram: 2048 * MIB, random, host, balloon }) };
}

test('a balloon takes all but a GiB, half, or nothing', () => {
  const sizes = [0, 511, 512, 1000, 1535, 1536, 2048, 65536];
  assert.deepEqual(
    sizes.map((mib) => largestBalloon(mib * MIB) / MIB),
    [0, 0, 256, 500, 767.5, 512, 1024, 64512],
  );
});

test('low memory grows the balloon by a sixteenth, and is looked for again after a second and some', () => {
  const { balloon, limits, machine } = policy([199, 11, 5, 0, 0, 0]);
  assert.ok(machine.watching);
  assert.equal(machine.deadline, undefined);
  machine.lowMemory(5000);
  assert.deepEqual(limits, [200, 12, 6]);
  assert.deepEqual(balloon.set, [64 * MIB]);
  assert.ok(!machine.watching);
  assert.equal(machine.deadline, 6199);
  machine.advance(6198);
  assert.ok(!machine.watching);
  machine.advance(6199);
  assert.ok(machine.watching);
  // The first look whether memory can go back: 60 + 11 s after the event, or after the last one.
  assert.equal(machine.deadline, 76_000);
  machine.lowMemory(70_000);
  machine.advance(71_000);
  assert.equal(machine.deadline, 130_000);
});

test('it stops at its maximum, and does not make smaller what somebody made larger', () => {
  const { balloon, machine } = policy(Array(60).fill(0));
  for (let i = 0, now = 0; i < 17; i++, now += 1000) {
    machine.advance(now);
    machine.lowMemory(now);
  }
  assert.equal(balloon.set.length, 16);
  assert.equal(balloon.target, 1024 * MIB);
  balloon.target = 1500 * MIB;
  machine.advance(20_000);
  machine.lowMemory(20_000);
  assert.equal(balloon.set.length, 16);
});

test('memory goes back step by step while the host has two steps more than its margin', () => {
  let available = 0;
  const { balloon, machine } = policy([0, 0, 1, 0, 0, 1], () => ({ available, margin: 100 }));
  machine.lowMemory(0);
  machine.advance(1000);
  machine.lowMemory(1000);
  machine.advance(2000);
  assert.equal(balloon.target, 128 * MIB);
  const looks: number[] = [];
  const next = (): void => {
    looks.push(machine.deadline!);
    machine.advance(machine.deadline!);
  };
  available = 227;
  next();
  assert.equal(balloon.target, 128 * MIB);
  available = 228;
  next();
  assert.equal(balloon.target, 64 * MIB);
  // Late by more than two intervals: one look, and the next in step.
  looks.push(machine.deadline!);
  machine.advance(machine.deadline! + 70_000);
  assert.equal(balloon.target, 0);
  next();
  // Nothing is left to give back.
  assert.equal(machine.deadline, undefined);
  assert.deepEqual(looks, [61_000, 92_000, 123_000, 216_000]);
});

/** A host with 4000 MiB, whose other programs take more and less, second by second. */
class Host {
  readonly margin = 200;
  readonly #random: (limit: number) => number;
  #used = 3000;

  constructor(random: (limit: number) => number) {
    this.#random = random;
  }

  second(): void {
    const { balloon } = this;
    this.#used = Math.min(Math.max(this.#used + this.#random(201) - 100, 1000), 4000 + balloon);
  }

  /** MiB that the balloon has brought. */
  balloon = 0;
  get available(): number {
    return 4000 - this.#used + this.balloon;
  }
  get low(): boolean {
    return this.available < this.margin;
  }
}

const secondAfter = (time: number): number => (Math.floor(time / 1000) + 1) * 1000;

/** The seed's run_control, with its two timers. */
function seedLoop(ram: number, host: Host, random: (limit: number) => number, hours: number): [number, number][] {
  const max = ram >= 1536 * MIB ? ram - 1024 * MIB : ram >= 512 * MIB ? ram / 2 : 0;
  const increment = Math.floor(max / 16);
  const trace: [number, number][] = [];
  let current = 0;
  let polled = true;
  let lowmemAt = Infinity;
  let freememAt = Infinity;
  let freememEvery = Infinity;
  const send = (time: number, size: number): void => {
    current = size;
    host.balloon = size / MIB;
    trace.push([time, size]);
  };
  for (let time = 0; time < hours * HOUR; time = Math.min(secondAfter(time), lowmemAt, freememAt)) {
    if (time % 1000 === 0) host.second();
    if (time === lowmemAt) {
      lowmemAt = Infinity;
      polled = true;
    }
    if (time === freememAt) {
      freememAt += freememEvery;
      if (current === 0) freememAt = Infinity;
      else if (host.available >= host.margin + 2 * (increment >> 20)) {
        send(time, current >= increment ? current - increment : 0);
      }
    }
    if (polled && host.low) {
      const grown = Math.min(current + increment, max);
      if (grown !== current) send(time, grown);
      polled = false;
      lowmemAt = time + 1000 + random(200);
      freememAt = time + (60 + random(12)) * 1000;
      freememEvery = (30 + random(6)) * 1000;
    }
  }
  return trace;
}

function policyLoop(ram: number, host: Host, random: (limit: number) => number, hours: number): [number, number][] {
  const trace: [number, number][] = [];
  let time = 0;
  const balloon = {
    target: 0,
    setTarget(size: number): void {
      this.target = size;
      host.balloon = size / MIB;
      trace.push([time, size]);
    },
  };
  const machine = new LowMemoryPolicy({ ram, random, host: () => host, balloon });
  for (; time < hours * HOUR; time = Math.min(secondAfter(time), machine.deadline ?? Infinity)) {
    if (time % 1000 === 0) host.second();
    if (machine.deadline !== undefined && machine.deadline <= time) machine.advance(time);
    if (machine.watching && host.low) machine.lowMemory(time);
  }
  return trace;
}

test('hours of a busy host, exactly as the seed would have it', (t) => {
  const choose = randomSource(t);
  const generator = (seed: number): ((limit: number) => number) => {
    let state = seed;
    return (limit) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
  };
  let changes = 0;
  for (const mib of [300, 512, 700, 1536, 2048, 5000]) {
    const [hostSeed, jitterSeed] = [choose(2 ** 32), choose(2 ** 32)];
    const run = (loop: typeof seedLoop): [number, number][] =>
      loop(mib * MIB, new Host(generator(hostSeed)), generator(jitterSeed), 10);
    const expected = run(seedLoop);
    assert.deepEqual(run(policyLoop), expected, `${mib} MiB`);
    changes += expected.length;
  }
  assert.ok(changes > 1000, `${changes}`);
});
