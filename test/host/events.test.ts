import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, EPOLLONESHOT, Epoll } from '../../src/host/epoll.ts';
import { EAGAIN, EINTR, EIO, EMFILE } from '../../src/host/errno.ts';
import { EventFd, signalEvent, takeEvent } from '../../src/host/eventfd.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { Poller, type PollerData, STOP } from '../../src/host/poller.ts';
import { signalThread, threadId } from '../../src/host/threads.ts';

test('an eventfd counts signals until they are taken', () => {
  const event = new EventFd();
  assert.equal(event.take(), 0);
  event.signal();
  signalEvent(event.fd);
  assert.equal(takeEvent(event.fd), 2);
  assert.equal(event.take(), 0);
  event.close();
});

test('interrupted calls are repeated, full counters are signals, other errors are thrown', () => {
  const event = new EventFd();
  const errors = [EINTR, EINTR];
  setFaultHook((name) => (name.startsWith('eventfd') ? errors.pop() : undefined));
  event.signal();
  assert.equal(errors.length, 0);
  errors.push(EINTR);
  assert.equal(event.take(), 1);
  errors.push(EAGAIN);
  event.signal();
  assert.equal(event.take(), 0);
  errors.push(EIO);
  assert.throws(() => event.signal(), { code: 'EIO', syscall: 'eventfd_write' });
  errors.push(EIO);
  assert.throws(() => event.take(), { code: 'EIO' });
  errors.push(EMFILE);
  assert.throws(() => new EventFd(), { code: 'EMFILE' });
  setFaultHook(undefined);
  event.close();
});

test('epoll gives tokens and events, and times out', () => {
  const [a, b] = [new EventFd(), new EventFd()];
  const epoll = new Epoll();
  epoll.add(a.fd, EPOLLIN, 1);
  epoll.add(b.fd, EPOLLIN | EPOLLONESHOT, 2 ** 40);
  assert.deepEqual(epoll.wait(0), []);
  b.signal();
  assert.deepEqual(epoll.wait(-1), [{ token: 2 ** 40, events: EPOLLIN }]);
  assert.deepEqual(epoll.wait(0), []);
  a.signal();
  epoll.modify(b.fd, EPOLLIN, 3);
  assert.deepEqual(
    epoll
      .wait(10)
      .map(({ token }) => token)
      .sort(),
    [1, 3],
  );
  epoll.remove(a.fd);
  assert.deepEqual(epoll.wait(0), [{ token: 3, events: EPOLLIN }]);
  assert.throws(() => epoll.remove(a.fd), { code: 'ENOENT' });
  assert.throws(() => epoll.add(-1, EPOLLIN, 0), { code: 'EBADF' });
  for (const thing of [epoll, a, b]) thing.close();
});

test('a poller calls back in the event loop, as long as the descriptor is ready', async () => {
  const poller = new Poller();
  const event = new EventFd();
  let calls = 0;
  let taken = 0;
  const enough = new Promise<void>((resolve) => {
    poller.watch(event.fd, EPOLLIN, (events) => {
      assert.equal(events, EPOLLIN);
      // Left ready twice: level-triggered.
      if (++calls < 3) return;
      taken += event.take();
      if (taken >= 2) resolve();
      else event.signal();
    });
  });
  event.signal();
  await enough;
  assert.equal(taken, 2);
  assert.ok(calls >= 4);
  await poller.close();
  event.close();
});

test('a poller tells nothing about what is no longer watched', async () => {
  const poller = new Poller();
  const [a, b] = [new EventFd(), new EventFd()];
  const token = poller.watch(a.fd, EPOLLIN, () => assert.fail('not watched'));
  poller.unwatch(token);
  a.signal();
  const told = new Promise<void>((resolve) => {
    poller.watch(b.fd, EPOLLIN, () => {
      b.take();
      resolve();
    });
  });
  b.signal();
  await told;
  await delay(10);
  await poller.close();
  for (const event of [a, b]) event.close();
});

test('a poller does not keep the process from ending, by itself or by process.exit()', () => {
  const poller = new URL('../../src/host/poller.ts', import.meta.url).href;
  for (const end of ['', 'setTimeout(() => process.exit(0), 100)', 'setTimeout(() => { throw 1 }, 100)']) {
    const code = `import { Poller } from ${JSON.stringify(poller)}; new Poller(); ${end}`;
    const result = spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 10_000 });
    assert.equal(result.signal, null, end);
  }
});

test('a thread has a number that can be signalled', () => {
  const tid = threadId();
  assert.equal(tid, process.pid);
  signalThread(tid, 0);
  assert.throws(() => signalThread(2 ** 22 + 1, 0), { code: 'ESRCH' });
});

test('a shared poller goes on until all have closed it; then there is another', async () => {
  const [first, second] = [Poller.shared(), Poller.shared()];
  assert.equal(first, second);
  await first.close();
  const event = new EventFd();
  second.hold();
  await new Promise<void>((resolve) => {
    const token = second.watch(event.fd, EPOLLIN, () => {
      second.unwatch(token);
      resolve();
    });
    event.signal();
  });
  second.release();
  await second.close();
  const third = Poller.shared();
  assert.notEqual(third, first);
  await third.close();
  event.close();
});

test('the thread that waits for descriptors answers V8, which waits for it to free code', async () => {
  const epoll = new Epoll();
  const stop = new EventFd();
  epoll.add(stop.fd, EPOLLIN, STOP);
  const data: PollerData = { fd: epoll.fd };
  const worker = new Worker(new URL('../../src/host/poller-thread.ts', import.meta.url), { workerData: data });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  const isReady = new Promise((resolve) => worker.once('message', resolve));
  const event = new EventFd();
  epoll.add(event.fd, EPOLLIN | EPOLLONESHOT, STOP + 1);
  event.signal();
  await isReady;
  // It waits again by then.
  await delay(200);
  // An interrupt of JavaScript, as the freeing of code is.
  assert.ok((await worker.getHeapStatistics()).used_heap_size > 0);
  stop.signal();
  await ended;
  epoll.close();
  event.close();
  stop.close();
});
