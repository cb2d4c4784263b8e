// The sandbox of a whole run: its devices' processes, their ends, and runs where there can be none.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { elfImage } from '../arch/x86_64/kernel/images.ts';
import { devicesOf, gone, lockedDevices } from './processes.ts';
import { Place } from './vivarium.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/vivarium', import.meta.url));
const POLICIES = fileURLToPath(new URL('../../src/jail/policies', import.meta.url));
const NOBODY = 65534;
/** As long as the monitor waits for its devices to end, ms. */
const HANG_TIMEOUT = 5000;

const place = new Place();
after(() => place.remove());

/** Prints "up", and stays. */
const kernel = place.file(
  'kernel',
  elfImage(
    Uint8Array.from([
      0x66,
      0xba,
      0xf8,
      0x03,
      ...[...'up\n'].flatMap((c) => [0xb0, c.charCodeAt(0), 0xee]),
      0xfa,
      0xf4,
      0xeb,
      0xfd,
    ]),
  ),
);
writeFileSync(place.path('disk'), Buffer.alloc(65536));

interface Run {
  readonly child: ChildProcess;
  /** Exit status or signal, and all of standard error. */
  readonly ended: Promise<{ readonly status: number | NodeJS.Signals | null; readonly stderr: string }>;
}

/** Starts a run whose guest is up when this resolves. */
async function start(args: readonly string[] = []): Promise<Run> {
  const child = spawn(process.execPath, [PROGRAM, 'run', ...args, kernel], { cwd: place.folder });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Awaited<Run['ended']>>((resolve) => {
    child.once('close', (status, signal) => resolve({ status: status ?? signal, stderr }));
  });
  after(() => child.kill('SIGKILL'));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    void ended.then(() => reject(new Error(stderr)));
  });
  return { child, ended };
}

test('each device of a run is in a process of its own, and all end with it', async () => {
  const run = await start(['--disk', 'disk']);
  // Disk, random numbers, balloon, network.
  const devices = await lockedDevices(run.child.pid as number, 4);
  const namespaces = devices.map((pid) => readlinkSync(`/proc/${pid}/ns/mnt`));
  assert.equal(new Set(namespaces).size, devices.length);
  for (const pid of devices) {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    assert.match(status, /^CapEff:\s0+$/m);
    assert.match(status, /^CapBnd:\s0+$/m);
    assert.match(status, /^NoNewPrivs:\s1$/m);
    assert.match(status, /^Seccomp:\s2$/m);
    assert.deepEqual(readdirSync(`/proc/${pid}/root`), []);
  }
  // Who wants the image, too, is told who has it.
  const { stderr } = await place.run(['run', '--rwdisk', 'disk', kernel]);
  assert.equal(stderr, `vivarium: disk: the image is locked by process ${run.child.pid} (vivarium)\n`);
  run.child.kill('SIGTERM');
  assert.deepEqual(await run.ended, { status: 143, stderr: '' });
  for (const pid of devices) await gone(pid);
});

test('a device that dies ends the run, which says of what', async () => {
  const run = await start(['--disk', 'disk']);
  const devices = await lockedDevices(run.child.pid as number, 4);
  process.kill(devices[0] as number, 'SIGKILL');
  const { status, stderr } = await run.ended;
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^vivarium: disk .*disk: its process was killed \(SIGKILL\): by a user, or by the kernel for want of memory: see dmesg\n$/,
  );
  for (const pid of devices) await gone(pid);
});

test('an image whose fault the device finds is named once', async () => {
  const image = place.path('cut.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', image, '64M']);
  truncateSync(image, 70_000);
  const { status, stderr } = await place.run(['run', '--rwqcow', image, kernel]);
  assert.deepEqual(
    { status, stderr },
    { status: 1, stderr: `vivarium: disk ${image}: the image is cut off: its tables are behind the file's end\n` },
  );
});

test('the devices of a monitor that is killed end, too', async () => {
  const run = await start();
  const devices = await lockedDevices(run.child.pid as number, 3);
  run.child.kill('SIGKILL');
  for (const pid of devices) await gone(pid);
});

test('a device that does not answer holds up the end for some seconds, and a second signal does not wait', async (t) => {
  for (const signals of [1, 2]) {
    const run = await start(['--disk', 'disk', '--socket', 'machine.sock']);
    const devices = await lockedDevices(run.child.pid as number, 4);
    for (const pid of devices) process.kill(pid, 'SIGSTOP');
    const begun = performance.now();
    run.child.kill('SIGINT');
    if (signals === 2) {
      // One that comes sooner is taken for the same, as a terminal sends it to several processes.
      await sleep(1500);
      run.child.kill('SIGINT');
    }
    const { status, stderr } = await run.ended;
    const time = performance.now() - begun;
    assert.equal(stderr, '');
    for (const pid of devices) await gone(pid);
    assert.ok(!existsSync(place.path('machine.sock')));
    if (signals === 1) assert.equal(status, 130);
    else if (time < HANG_TIMEOUT) assert.equal(status, 'SIGINT');
    else t.diagnostic(`the second signal came late: ${time} ms`);
  }
});

test('without the sandbox there are no processes', async () => {
  const run = await start(['--disable-sandbox']);
  assert.deepEqual(devicesOf(run.child.pid as number), []);
  run.child.kill('SIGTERM');
  assert.equal((await run.ended).status, 143);
});

test('an ordinary user has the sandbox, too', {
  skip: process.getuid?.() !== 0 && 'only root can be somebody else',
}, async (t) => {
  chmodSync(place.folder, 0o755);
  const exits = place.file('exits', elfImage(Uint8Array.from([0xb0, 5, 0xe6, 0xf4, 0xfa, 0xf4])));
  const { status, stderr } = await place.run(['run', '--debug-exit', place.path(exits)], NOBODY);
  // The project's own folder may be closed to others.
  if (/EACCES|MODULE_NOT_FOUND/.test(stderr)) return t.skip('the project is closed to others');
  assert.deepEqual([status, stderr], [11, '']);
});

test('where there can be no jail the run says so, and how to go on', async () => {
  const { status, stderr } = await place.run(['run', kernel], undefined, { PATH: '/absent' });
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^vivarium: [^\n]*: devices cannot be jailed without bubblewrap: install the package bubblewrap, or run without jails, with --disable-sandbox\n$/,
  );
});

test('policies of one’s own are used', async () => {
  const folder = place.path('policies');
  cpSync(POLICIES, folder, { recursive: true });
  writeFileSync(join(folder, 'rng_device.policy'), '@include ./common_device.policy\ngetpid: 1\n');
  const { status, stderr } = await place.run(['run', '--seccomp-policy-dir', folder, kernel]);
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^vivarium: random number generator: [^\n]*rng_device\.policy:2: getpid has a line already, at [^\n]*: make one of both\n$/,
  );
});
