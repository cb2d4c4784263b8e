// Machines that run, and the commands that steer them.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
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

  constructor(t: TestContext, name: string, kernel: string) {
    this.socket = place.path(name);
    const args = [PROGRAM, 'run', '--hypervisor', 'soft', '-m', '32', '--socket', this.socket, place.path(kernel)];
    this.child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
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

test('machines are listed, stand still, go on, and end', async (t) => {
  const machine = new Machine(t, 'a.sock', dots);
  const other = new Machine(t, 'b.sock', dots);
  await Promise.all([machine.begun(), other.begun()]);
  const pid = String(machine.child.pid);
  assert.match(await succeed('ps'), /^PID .*\n(?:\d+ +running +0:00:\d\d +1 +32M .*\/dots +.*\/[ab].sock\n){2}$/);

  await succeed('suspend', machine.socket);
  // What was on its way comes, and then nothing more.
  await sleep(200);
  const { output } = machine;
  const times = (await succeed('stats', pid)).split('\n').filter((line) => line.startsWith('processors.'));
  await other.goesOn();
  await sleep(300);
  assert.equal(machine.output, output);
  assert.deepEqual(
    (await succeed('stats', pid)).split('\n').filter((line) => line.startsWith('processors.')),
    times,
  );
  assert.match(await succeed('ps'), new RegExp(`^${pid} +paused `, 'm'));
  await succeed('suspend', machine.socket);

  await succeed('resume', pid, other.socket);
  await machine.goesOn();
  assert.match(await succeed('stats', pid), /^paused: false$/m);

  // Also a machine that stands still ends.
  await succeed('suspend', pid);
  await succeed('stop', machine.socket, other.socket);
  assert.deepEqual(await Promise.all([machine.end, other.end]), [0, 0]);
  assert.ok(!existsSync(machine.socket) && !existsSync(other.socket));
  assert.deepEqual(listed(), []);
});

test('what cannot be done is told in a line', async (t) => {
  const machine = new Machine(t, 'c.sock', dots);
  await machine.begun();
  const failures: readonly [args: readonly string[], line: RegExp][] = [
    [['stop', place.path('none')], /none: there is no such socket$/],
    [['stop', place.path('dots')], /dots: no machine listens there$/],
    [['suspend', '1'], /^1: no machine of this user has this number: vivarium ps lists them$/],
    [['stats', ''], /there is no such socket$/],
    [['stop'], /missing required argument 'MACHINE'$/],
    [['balloon', '5'], /missing required argument MACHINE$/],
    [['balloon', '1.5', machine.socket], /pages of 4 KiB/],
    [['balloon', '-16', machine.socket], /c.sock: the machine has no balloon$/],
    [['balloon', '--set', '64M', machine.socket], /the machine has no balloon$/],
    [['disk', 'resize', '--machine', machine.socket, 'vda', '+1G'], /the machine has no such disk$/],
    [
      ['run', '--socket', machine.socket, dots],
      /c.sock: it exists already: take it away, or give another path with --socket$/,
    ],
    [['run', '--socket', place.path('no/such'), dots], /no\/such: the control socket cannot be made/],
  ];
  const results = await Promise.all(failures.map(([args]) => vivarium(...args)));
  for (const [i, [args, line]] of failures.entries()) {
    const { status, stderr } = results[i]!;
    assert.equal(status, 1, args.join(' '));
    assert.match(stderr.trimEnd().replace(/^vivarium: /, ''), line);
    assert.equal(stderr.split('\n').length, 2, stderr);
  }
  // One that is not there does not keep the others from being asked.
  const { status } = await vivarium('stop', place.path('none'), machine.socket);
  assert.equal(status, 1);
  assert.equal(await machine.end, 0);
});

test('signals end a machine in good order; what was killed is taken off the list', async (t) => {
  const machines = ['d', 'e', 'f', 'g'].map((name) => new Machine(t, `${name}.sock`, dots));
  await Promise.all(machines.map((machine) => machine.begun()));
  assert.equal(listed().length, 4);
  const signals = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGKILL'] as const;
  for (const [i, machine] of machines.entries()) machine.child.kill(signals[i]);
  assert.deepEqual(await Promise.all(machines.map((machine) => machine.end)), [143, 129, 130, 'SIGKILL']);
  assert.deepEqual(
    machines.map((machine) => existsSync(machine.socket)),
    [false, false, false, true],
  );
  assert.equal((await succeed('ps')).split('\n').length, 2);
  assert.deepEqual(listed(), []);
});

test('a second signal does not wait for who does not read the console', async (t) => {
  const machine = new Machine(t, 'h.sock', flood);
  while (!existsSync(machine.socket)) await sleep(20);
  // The pipe is full.
  await sleep(1500);
  machine.child.kill('SIGINT');
  assert.equal(await Promise.race([machine.end, sleep(500, 'waits')]), 'waits');
  machine.child.kill('SIGINT');
  assert.equal(await machine.end, 130);
  assert.ok(!existsSync(machine.socket));
});
