// What drives the policy: the host's sources, and the timers.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, mock, test } from 'node:test';
import { type LowMemorySource, lowMemorySource } from '../../../src/control/low-memory/source.ts';
import { watchLowMemory } from '../../../src/control/low-memory/watch.ts';
import { Poller } from '../../../src/host/poller.ts';
import { FakeMachine } from '../fake-machine.ts';

const MIB = 2 ** 20;
const poller = new Poller();
after(() => poller.close());

/** A source that says "low" when it is told to. */
class FakeSource implements LowMemorySource {
  callback: (() => void) | undefined;
  available = 0;
  failing = false;
  watch(_: Poller, callback: () => void): () => void {
    this.callback = callback;
    return () => {
      this.callback = undefined;
    };
  }
  call(): void {
    this.callback!();
  }
  read(): { available: number; margin: number } {
    if (this.failing) throw new Error('gone');
    return { available: this.available, margin: 10 };
  }
}

test('the balloon follows the source, by timers that are cleared at the end', (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  const pass = (milliseconds: number): void => {
    now += milliseconds;
    mock.timers.tick(milliseconds);
  };
  const source = new FakeSource();
  const balloon = new FakeMachine().balloon!;
  const log: string[] = [];
  const end = watchLowMemory({ ram: 2048 * MIB, balloon, source, poller }, (line) => log.push(line));
  source.call();
  assert.equal(balloon.target, 64 * MIB);
  // Nobody looks for a second.
  assert.equal(source.callback, undefined);
  pass(999);
  assert.equal(source.callback, undefined);
  pass(201);
  source.call();
  assert.equal(balloon.target, 128 * MIB);
  source.available = 1000;
  pass(72_000);
  assert.equal(balloon.target, 64 * MIB);
  pass(36_000);
  assert.equal(balloon.target, 0);
  pass(36_000);
  source.call();
  source.failing = true;
  pass(72_000);
  assert.deepEqual(log, ["the host's memory is not watched any more: gone"]);
  assert.equal(source.callback, undefined);
  end();
});

test('a small guest is left alone', () => {
  const source = new FakeSource();
  watchLowMemory({ ram: 256 * MIB, balloon: new FakeMachine().balloon!, source, poller }, () => {})();
  assert.equal(source.callback, undefined);
});

test('pressure stall information is watched and let go', {
  skip: !existsSync('/proc/pressure/memory') && 'there is none',
}, (t) => {
  const source = lowMemorySource()!;
  const { available, margin } = source.read();
  assert.ok(available > 0 && margin > 0);
  const descriptors = readdirSync('/proc/self/fd').length;
  try {
    source.watch(poller, () => {})();
  } catch (error) {
    // A kernel before 6.5 lets privileged users alone have triggers, a container may let nobody.
    return t.skip((error as Error).message);
  }
  assert.equal(readdirSync('/proc/self/fd').length, descriptors);
});
