import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AwakeWait } from '../../src/host/awake-wait.ts';
import { ManualClock } from '../../src/host/clock.ts';

const LOOK = 10_000;

/** What somebody else takes, and how long the processor is held to be busy then, nanoseconds. */
const OTHER = 3_000_000;
const CROWDED = 20_000_000;

/** Waits of a thread whose looks take LOOK nanoseconds each. */
class Waits {
  readonly #clock = new ManualClock();
  readonly #awake = new AwakeWait(this.#clock);

  /** Somebody else has the processor between two looks. */
  crowded = false;

  pass(time: number): void {
    this.#clock.advance(time);
  }

  /** Waits for what comes after `time` nanoseconds: how often it looked, and whether it slept. */
  wait(time: number, longest = Number.POSITIVE_INFINITY): { readonly looks: number; readonly slept: boolean } {
    const due = this.#clock.now() + time;
    let [looks, slept] = [0, false];
    const look = (): boolean => {
      looks++;
      this.#clock.advance(this.crowded ? OTHER : LOOK);
      return this.#clock.now() >= due;
    };
    const sleep = (): void => {
      slept = true;
      this.#clock.set(Math.max(this.#clock.now(), due));
    };
    this.#awake.wait(longest, look, sleep);
    return { looks, slept };
  }
}

test('after a short wait the thread stays awake for the next', () => {
  const waits = new Waits();
  assert.deepEqual(waits.wait(50_000), { looks: 0, slept: true }, 'nothing is known before the first');
  assert.deepEqual(waits.wait(50_000), { looks: 5, slept: false });
  assert.deepEqual(waits.wait(100_000), { looks: 10, slept: false });
});

test('what takes longer is slept for, and after it the thread sleeps at once', () => {
  const waits = new Waits();
  waits.wait(50_000);
  assert.deepEqual(waits.wait(2_000_000), { looks: 30, slept: true });
  assert.deepEqual(waits.wait(50_000), { looks: 0, slept: true });
  assert.deepEqual(waits.wait(50_000), { looks: 5, slept: false });
});

test('it is awake no longer than the caller says', () => {
  const waits = new Waits();
  waits.wait(50_000);
  assert.deepEqual(waits.wait(50_000, 20_000), { looks: 2, slept: true });
});

test('where somebody else wants the processor it sleeps, and at once for a while', () => {
  const waits = new Waits();
  waits.wait(50_000);
  waits.crowded = true;
  assert.deepEqual(waits.wait(4_000_000), { looks: 1, slept: true });
  waits.crowded = false;
  for (let i = 0; i < 3; i++) assert.deepEqual(waits.wait(50_000), { looks: 0, slept: true });
  waits.pass(CROWDED);
  assert.deepEqual(waits.wait(50_000), { looks: 5, slept: false });
});
