// Whole guests whose packets the kernel moves, of a tap and of sockets, on a KVM that runs any guest: Linux's drivers, with notifications
// and interrupts that no process of ours sees.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { defaultGuest } from '../../e2e/kernels.ts';
import { PROGRAM, RunningGuest } from '../../e2e/running-guest.ts';
import { withoutFullKvm } from '../../hypervisor/kvm/guest.ts';

const skip = existsSync('/dev/vhost-net') ? withoutFullKvm : 'no /dev/vhost-net';
const SOCKETS = fileURLToPath(new URL('../../e2e/programs/vsock-exercise.c', import.meta.url));
const HOST = '10.99.9.1';
const GUEST = '10.99.9.2';
const PORT = 8000;
/** Milliseconds: much, since a whole machine may be emulated. */
const PATIENCE = 300_000;

test('a guest fetches a file by way of vhost-net', { skip, timeout: 2 * PATIENCE }, async (t) => {
  const { kernel, initrd } = await defaultGuest();
  const tap = ['--host_ip', HOST, '--netmask', '255.255.255.0', '--mac', '02:00:00:00:00:09', '--vhost-net'];
  const args = [PROGRAM, 'run', '--hypervisor', 'kvm', ...tap, '-p', 'quiet', '--initrd', initrd, kernel];
  const guest = new RunningGuest(process.execPath, args);
  t.after(() => guest.kill());
  await guest.shell(PATIENCE);
  const data = randomBytes(4 * 2 ** 20);
  const server = createServer((_, response) => response.end(data)).listen(PORT, HOST);
  t.after(() => server.close());

  await guest.command(`ip link set eth0 up; ip addr add ${GUEST}/24 dev eth0`);
  for (const size of [56, 20_000]) {
    assert.match(await guest.command(`ping -c 1 -W 10 -s ${size} ${HOST}`), / 0% packet loss/);
  }
  const sum = await guest.command(`wget -q -O - http://${HOST}:${PORT}/ | sha256sum`);
  assert.equal(sum.slice(0, 64), createHash('sha256').update(data).digest('hex'));
  // The kernel's thread, which is named after the process that it works for.
  assert.match(execFileSync('ps', ['-eLo', 'comm='], { encoding: 'utf8' }), /^vhost-\d+$/m);
  guest.send('poweroff\n');
  assert.equal((await guest.end()).status, 0, guest.errors);
});

test('a thousand connections by way of vhost-vsock, all at once, echo without loss', {
  skip,
  timeout: 2 * PATIENCE,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-vhost-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'exercise');
  execFileSync('gcc', ['-static', '-O2', '-o', program, SOCKETS]);
  const host = spawn(program, ['serve', '52', '1000'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => host.kill());
  await once(host.stdout, 'data');
  const guest = RunningGuest.on('kvm', '--cid', '42', '-p', 'quiet', '--net', 'none', '--mount', `${folder}:/tools:ro`);
  t.after(() => guest.kill());
  await guest.shell(PATIENCE);
  guest.send('/tools/exercise echo 52 1000 1500\n');
  await guest.expect('fine\r\n', PATIENCE);
  guest.send('poweroff\n');
  assert.equal((await guest.end()).status, 0, guest.errors);
});
