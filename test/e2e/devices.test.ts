// Devices of the default guest that are not disks, files or networks: named ports of the console, and the balloon.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../src/control/client.ts';
import { LONG, RunningGuest } from './running-guest.ts';

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vivarium-devices-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

test('named ports carry bytes both ways, each its own, with whoever has connected', async (t) => {
  const ports = ['org.example.agent', 'second'];
  const run = RunningGuest.run(
    '-p',
    'quiet cryptomgr.notests',
    ...ports.flatMap((name) => ['--console-port', `${name}=${at(name)}`]),
  );
  t.after(() => run.kill());
  await run.shell();
  const names = await run.command('cd /sys/class/virtio-ports; for p in vport*; do echo "$p $(cat $p/name)"; done');
  assert.deepEqual(
    names
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[1]),
    ports,
  );
  for (const [i, line] of names.trim().split('\n').entries()) {
    const device = `/dev/${line.split(' ')[0]}`;
    for (const round of [1, 2]) {
      const client = connect(at(ports[i]!));
      await once(client, 'connect');
      let received = '';
      client.setEncoding('utf8').on('data', (text: string) => (received += text));
      client.write(`from the host ${round}\n`);
      // Lines of the host go into the guest; what the guest answers, and half a MiB after it, comes out.
      const said = await run.command(
        `exec 3<>${device}; read -r line <&3; echo "$line"; echo "answer to $line" >&3; seq 1 100000 >&3; exec 3>&-`,
      );
      assert.equal(said, `from the host ${round}\n`);
      const whole = `answer to from the host ${round}\n${Array.from({ length: 100_000 }, (_, n) => `${n + 1}\n`).join('')}`;
      const deadline = Date.now() + LONG;
      while (received.length < whole.length && Date.now() < deadline) await sleep(20);
      assert.ok(received === whole, `${received.length} bytes of ${whole.length}`);
      const closed = once(client, 'close');
      client.destroy();
      await closed;
    }
  }
  assert.deepEqual(run.complaints, []);
  run.send('poweroff\n');
  assert.equal((await run.end()).status, 0);
  for (const name of ports) assert.equal(existsSync(at(name)), false);
});

test('what the guest frees, and what the balloon takes, goes back to the host; the console is hvc0', async (t) => {
  const socket = at('machine.sock');
  const console = ['--console', 'virtio'];
  const run = RunningGuest.run('-m', '256', '-p', 'quiet cryptomgr.notests', '--socket', socket, ...console);
  t.after(() => run.kill());
  await run.shell();
  assert.equal(await run.command('tty'), '/dev/hvc0\n');
  /** Guest memory that the monitor has resident, MiB. */
  const resident = (): number =>
    Number(/^RssShmem:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${run.child.pid}/status`, 'latin1'))?.[1]) / 1024;
  const becomes = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
    const deadline = Date.now() + LONG;
    while (!(await condition())) {
      assert.ok(Date.now() < deadline, `${what}; resident: ${resident()} MiB`);
      await sleep(100);
    }
  };
  const before = resident();
  await run.command('dd if=/dev/zero of=/tmp/large bs=1M count=100');
  const full = resident();
  assert.ok(full >= before + 60, `${full} MiB, ${before} before`);
  await run.command('rm /tmp/large');
  await becomes('freed memory stays', () => resident() < full - 80);

  const free = async (): Promise<number> =>
    Number(/^MemFree: +(\d+) kB$/m.exec(await run.command('cat /proc/meminfo'))?.[1]) / 1024;
  const unballooned = await free();
  await ask(socket, 'PUT', '/balloon', { size: 64 * MIB });
  await becomes('the balloon does not grow', async () => (await free()) < unballooned - 55);
  await ask(socket, 'PUT', '/balloon', { size: 0 });
  await becomes('the balloon does not shrink', async () => (await free()) > unballooned - 15);

  const { size } = (await ask(socket, 'POST', '/balloon/reclaim')) as { size: number };
  assert.ok(size / MIB > unballooned / 2 && size / MIB < unballooned + 15, `${size / MIB} of ${unballooned} MiB`);
  assert.deepEqual(run.complaints, []);
});
