import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EPOLLET, EPOLLIN, EPOLLOUT } from '../../src/host/epoll.ts';
import { EventLoop } from '../../src/host/event-loop.ts';
import { EventFd } from '../../src/host/eventfd.ts';

test('callbacks run while their descriptors are ready, until the loop is stopped', () => {
  const loop = new EventLoop();
  const event = new EventFd();
  let calls = 0;
  event.signal();
  loop.watch(event.fd, EPOLLIN, (events) => {
    assert.equal(events, EPOLLIN);
    if (++calls === 3) loop.stop();
  });
  loop.run();
  assert.equal(calls, 3, 'level-triggered: it was never read');
  loop.close();
  event.close();
});

test('with EPOLLET each signal is told once, and need not be read', () => {
  const loop = new EventLoop();
  const event = new EventFd();
  let calls = 0;
  loop.watch(event.fd, EPOLLIN | EPOLLET, () => calls++);
  for (let i = 1; i <= 3; i++) {
    event.signal();
    loop.poll(-1);
    loop.poll(0);
    assert.equal(calls, i);
  }
  loop.close();
  event.close();
});

test('what one callback stops watching is not called in the same turn, nor is its successor', () => {
  const loop = new EventLoop();
  const events = [new EventFd(), new EventFd()];
  const called: string[] = [];
  const callback = (own: EventFd, other: EventFd) => (): void => {
    called.push('first');
    own.take();
    loop.unwatch(other.fd);
    loop.watch(other.fd, EPOLLOUT, () => called.push('successor'));
  };
  loop.watch(events[0]!.fd, EPOLLIN, callback(events[0]!, events[1]!));
  loop.watch(events[1]!.fd, EPOLLIN, callback(events[1]!, events[0]!));
  for (const event of events) event.signal();
  loop.poll(-1);
  assert.deepEqual(called, ['first']);
  loop.poll(-1);
  assert.deepEqual(called, ['first', 'successor']);
  loop.close();
  for (const event of events) event.close();
});

test('what is watched for can be changed; strangers are refused or left alone', () => {
  const loop = new EventLoop();
  const event = new EventFd();
  const seen: number[] = [];
  loop.watch(event.fd, EPOLLIN, (events) => seen.push(events));
  assert.throws(() => loop.watch(event.fd, EPOLLIN, () => {}), { code: 'EEXIST' });
  loop.poll(0);
  loop.change(event.fd, EPOLLOUT);
  loop.poll(0);
  loop.unwatch(event.fd);
  loop.unwatch(event.fd);
  loop.poll(0);
  assert.throws(() => loop.change(event.fd, EPOLLIN), RangeError);
  assert.deepEqual(seen, [EPOLLOUT]);
  loop.close();
  event.close();
});

test('timers fire in the order of their deadlines, once, unless they are cancelled', () => {
  const loop = new EventLoop();
  const fired: string[] = [];
  const fire = (name: string): void => {
    fired.push(name);
    if (fired.length === 4) loop.stop();
  };
  loop.after(4, () => fire('late'));
  const cancelled = loop.after(3, () => fire('cancelled'));
  loop.after(2, () => {
    fire('early');
    loop.cancel(cancelled);
    loop.after(0, () => fire('nested'));
  });
  loop.after(-5, () => fire('at once'));
  loop.run();
  assert.deepEqual(fired.toSorted(), ['at once', 'early', 'late', 'nested']);
  assert.equal(fired[0], 'at once');
  assert.ok(fired.indexOf('early') < fired.indexOf('late'));
  loop.cancel(cancelled);
  loop.close();
});

test('what a callback throws comes out of run()', () => {
  const loop = new EventLoop();
  loop.after(0, () => {
    throw new Error('thrown');
  });
  assert.throws(() => loop.run(), /thrown/);
  loop.stop();
  loop.run();
  loop.close();
});
