// A device process ends with its monitor, whenever that is killed.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bundle } from '../../scripts/bundle.ts';
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { messageSocketPair } from '../../src/host/unix-socket.ts';
import { receiveJson, sendJson } from '../../src/jail/channel.ts';
import { hostSyscallArch, SYSCALL_NUMBERS } from '../../src/jail/syscalls.ts';
import type { Request } from './device.ts';
import type { DyingMonitor } from './dying-monitor.ts';

const MONITOR = fileURLToPath(new URL('dying-monitor.ts', import.meta.url));
const NUMBERS = SYSCALL_NUMBERS[hostSyscallArch() ?? 'x86_64'];
/** A process that has not ended by then never will, milliseconds. */
const LONGEST_END = 120_000;
/** Some moments of a start, which takes 70 ms on a quiet host and a second on a busy one. */
const MOMENTS = [...Array.from({ length: 16 }, (_, i) => i * 8), 150, 200, 300, 500];

const root = { skip: process.geteuid?.() !== 0 && 'only root can give a device all users' };
let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vivarium-orphans-'));
  await bundle({ device: fileURLToPath(new URL('device.ts', import.meta.url)) }, folder);
});
after(() => rmSync(folder, { recursive: true }));

/** A monitor, and its device. */
interface Pair {
  readonly monitor: ChildProcess;
  readonly send: (request: Request) => void;
  /** What the device says next. */
  readonly heard: () => Promise<unknown>;
  /** Resolves when all processes of the device have gone; what is left is killed. */
  readonly gone: () => Promise<void>;
}

function start(t: TestContext, options: Omit<DyingMonitor, 'bundle'>): Pair {
  const [mine, its] = messageSocketPair();
  t.after(() => closeDescriptor(mine));
  // Whoever has the device's descriptor is a process of its.
  const socket = readlinkSync(`/proc/self/fd/${its}`);
  const argument = JSON.stringify({ bundle: join(folder, 'device.cjs'), ...options } satisfies DyingMonitor);
  const monitor = spawn(process.execPath, [MONITOR, argument], { stdio: ['ignore', 'ignore', 'inherit', its] });
  closeDescriptor(its);
  t.after(() => {
    monitor.kill('SIGKILL');
    for (const pid of holdersOf(socket)) process.kill(pid, 'SIGKILL');
  });
  return {
    monitor,
    send: (request) => sendJson(mine, request),
    heard: async () => {
      for (;;) {
        const message = receiveJson(mine, { wait: false });
        if (message !== undefined) return message?.value ?? null;
        await sleep(5);
      }
    },
    gone: async () => {
      if (monitor.signalCode === null) await once(monitor, 'exit');
      assert.equal(monitor.signalCode, 'SIGKILL');
      const deadline = Date.now() + LONGEST_END;
      for (;;) {
        const left = holdersOf(socket);
        if (left.length === 0) return;
        assert.ok(Date.now() < deadline, `left over: ${left.join(', ')}`);
        await sleep(10);
      }
    },
  };
}

/** Processes that have a descriptor of this name. */
function holdersOf(link: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && linksOf(`/proc/${pid}/fd`).includes(link));
}

function linksOf(path: string): string[] {
  try {
    return readdirSync(path).map((fd) => readlinkSync(join(path, fd)));
  } catch {
    // It has ended, or is somebody else's.
    return [];
  }
}

test('a monitor that is killed while a device starts leaves nothing, at any moment', async (t) => {
  for (const killedAfter of MOMENTS) await start(t, { killedAfter }).gone();
});

test('a device that finds its monitor gone when it locks itself in ends', async (t) => {
  const { monitor, heard, send, gone } = start(t, { options: { data: { waits: true } } });
  assert.equal(await heard(), 'preparing');
  monitor.kill('SIGKILL');
  await once(monitor, 'exit');
  send({ act: 'end' });
  await gone();
});

test('a device that waits for its users ends with its monitor', root, async (t) => {
  await start(t, { users: 'dies' }).gone();
});

test('a device that serves the guest and hears nothing any more ends with its monitor', async (t) => {
  const { monitor, heard, send, gone } = start(t, {});
  send({ act: 'start' });
  await heard();
  send({ act: 'hang' });
  monitor.kill('SIGKILL');
  await gone();
});

test('so does one that has acted for other users', root, async (t) => {
  const { monitor, heard, send, gone } = start(t, { users: 'given', options: { policy: '9p_device' } });
  send({ act: 'call', number: NUMBERS.get('setfsuid') as number, args: [1] });
  assert.equal(await heard(), 0);
  send({ act: 'hang' });
  monitor.kill('SIGKILL');
  await gone();
});
