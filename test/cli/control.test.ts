// Machines that run, and the commands that steer them.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readdirSync, writeSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../src/control/client.ts';
import { DatagramSocket, unixAddress } from '../../src/host/datagram-socket.ts';
import { elfImage } from '../arch/x86_64/kernel/images.ts';
import { PROGRAM } from '../e2e/running-guest.ts';
import { Place, type Result } from './vivarium.ts';

const place = new Place();
after(() => place.remove());

/** Prints dots for ever, each a good while after the one before: mov dx, 0x3f8; mov al, '.'; mov ecx, N; loop; out; jmp. */
const dots = place.file(
  'dots',
  elfImage(
    Uint8Array.from([
      0x66, 0xba, 0xf8, 0x03, 0xb0, 0x2e, 0xb9, 0x00, 0x20, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xee, 0xeb, 0xf4,
    ]),
  ),
);
/** Prints lines for ever, as fast as it can. */
const flood = place.file(
  'flood',
  elfImage(Uint8Array.from([0x66, 0xba, 0xf8, 0x03, 0xb0, 0x2e, 0xee, 0xb0, 0x0a, 0xee, 0xeb, 0xf8])),
);

/** Where the list of machines is kept; the commands must look there, too. */
const runtime = { XDG_RUNTIME_DIR: place.path('') };
const listed = (): string[] => readdirSync(place.path('vivarium'));

class Machine {
  readonly child: ChildProcess;
  readonly socket: string;
  output = 0;
  readonly end: Promise<number | NodeJS.Signals | null>;

  constructor(
    t: TestContext,
    name: string,
    kernel: string,
    { stdout = 'pipe', options = [] }: { stdout?: number | 'pipe'; options?: readonly string[] } = {},
  ) {
    this.socket = place.path(name);
    // By a name that is good in its folder alone.
    const args = [PROGRAM, 'run', '--hypervisor', 'soft', '-m', '32', '--socket', name, ...options, place.path(kernel)];
    this.child = spawn(process.execPath, args, {
      cwd: place.folder,
      stdio: ['ignore', stdout, 'inherit'],
      env: { ...process.env, ...runtime },
    });
    this.end = new Promise((resolve) => this.child.once('exit', (status, signal) => resolve(status ?? signal)));
    t.after(() => this.child.kill('SIGKILL'));
  }

  /** Reads what it prints. Resolves when it has begun. */
  async begun(): Promise<void> {
    this.child.stdout!.on('data', (bytes: Buffer) => {
      this.output += bytes.length;
    });
    await this.goesOn();
  }

  /** Waits for more output. */
  async goesOn(): Promise<void> {
    const before = this.output;
    while (this.output === before) await sleep(10);
  }
}

const vivarium = (...args: readonly string[]): Promise<Result> => place.run(args, undefined, runtime);

/** A command that succeeds; returns what it printed. */
async function succeed(...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await vivarium(...args);
  assert.equal(stderr, '');
  assert.equal(status, 0);
  return stdout;
}

test('a machine is listed, stands still, goes on, and ends', async (t) => {
  const machine = new Machine(t, 'a.sock', dots);
  await machine.begun();
  const pid = String(machine.child.pid);
  await succeed('suspend', machine.socket);
  // What was on its way comes, and then nothing more.
  await sleep(200);
  const { output } = machine;
  const processors = async (): Promise<unknown> =>
    ((await ask(machine.socket, 'GET', '/statistics')) as { readonly processors: unknown }).processors;
  const times = await processors();
  assert.match(await succeed('ps'), /^PID .*\n\d+ +paused +0:00:\d\d +1 +32M .*\/dots +.*\/a.sock\n$/);
  assert.equal(machine.output, output);
  assert.deepEqual(await processors(), times);
  await succeed('suspend', pid);

  await succeed('resume', pid);
  await machine.goesOn();
  assert.match(await succeed('stats', pid), /^paused: false$/m);

  // Taken back by 16 pages; the guest has no driver.
  await succeed('balloon', '--set', '8M', pid);
  await succeed('balloon', '-16', machine.socket);
  const balloon = await ask(machine.socket, 'GET', '/balloon');
  assert.equal((balloon as { readonly size: number }).size, 2 ** 23 - 2 ** 16);

  // Also a machine that stands still ends.
  await succeed('suspend', pid);
  await succeed('stop', machine.socket);
  assert.equal(await machine.end, 0);
  assert.ok(!existsSync(machine.socket));
  assert.deepEqual(listed(), []);
});

test('crosvm ends a machine, too', async (t) => {
  const machine = new Machine(t, 'b.sock', dots);
  await machine.begun();
  const client = new DatagramSocket();
  client.send(Buffer.from('01'.padEnd(64, '0'), 'hex'), unixAddress(`${machine.socket}.crosvm`));
  client.close();
  assert.equal(await machine.end, 0);
  assert.ok(!existsSync(`${machine.socket}.crosvm`));
});

test('a machine whose time counts instructions has no balloon', async (t) => {
  const machine = new Machine(t, 'i.sock', dots, { options: ['--icount'] });
  await machine.begun();
  const { stderr } = await vivarium('balloon', '1', machine.socket);
  assert.match(stderr, /^vivarium: .*i.sock: the machine has no balloon\n$/);
  assert.doesNotMatch(await succeed('stats', machine.socket), /balloon/);
  await succeed('stop', machine.socket);
  assert.equal(await machine.end, 0);
});

test('what cannot be done is told in a line', async (t) => {
  const machine = new Machine(t, 'c.sock', dots);
  await machine.begun();
  await succeed('suspend', machine.socket);
  const failures: readonly [args: readonly string[], line: RegExp][] = [
    [['balloon', '5'], /^vivarium: missing required argument MACHINE\n$/],
    [['balloon', '1.5', machine.socket], /^vivarium: PAGES 1.5: it takes a number of pages of 4 KiB, .*\n$/],
    [
      ['balloon', '--set', '64M', machine.socket],
      /^vivarium: .*c.sock: size: the balloon .* takes 33554432 bytes at most\n$/,
    ],
    [['disk', 'resize', '--machine', machine.socket, 'vda', '+1G'], /^vivarium: .*: the machine has no such disk\n$/],
    [
      ['run', '--socket', machine.socket, dots],
      /^vivarium: .*c.sock: it exists already: take it away, or give another path with --socket\n$/,
    ],
    // One that is not there does not keep the others from being asked.
    [['stop', place.path('none'), machine.socket], /^vivarium: .*none: there is no such socket\n$/],
  ];
  for (const [args, line] of failures) {
    const { status, stderr } = await vivarium(...args);
    assert.match(stderr, line);
    assert.equal(status, 1, args.join(' '));
  }
  assert.equal(await machine.end, 0);
});

test('signals end a machine in good order; what was killed is taken off the list', async (t) => {
  for (const [name, signal, end] of [
    ['d.sock', 'SIGTERM', 143],
    ['e.sock', 'SIGHUP', 129],
    ['f.sock', 'SIGINT', 130],
    ['g.sock', 'SIGKILL', 'SIGKILL'],
  ] as const) {
    const machine = new Machine(t, name, dots);
    await machine.begun();
    assert.equal(listed().length, 1);
    machine.child.kill(signal);
    assert.equal(await machine.end, end);
    assert.equal(existsSync(machine.socket), signal === 'SIGKILL');
  }
  assert.match(await succeed('ps'), /^PID .*\n$/);
  assert.deepEqual(listed(), []);
});

/** A pipe that nobody reads and that takes nothing more. */
function fullPipe(t: TestContext): number {
  const path = place.path('full');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.after(() => closeSync(fd));
  assert.throws(
    () => {
      for (;;) writeSync(fd, new Uint8Array(4096));
    },
    { code: 'EAGAIN' },
  );
  return fd;
}

test('a machine whose console nobody reads ends', async (t) => {
  const machine = new Machine(t, 'h.sock', flood, { stdout: fullPipe(t) });
  while (!(await ask(machine.socket, 'GET', '/machine').catch(() => undefined))) await sleep(50);
  machine.child.kill('SIGINT');
  assert.equal(await machine.end, 130);
  assert.ok(!existsSync(machine.socket));
});
