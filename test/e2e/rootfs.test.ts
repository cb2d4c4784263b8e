// `vivarium run --rootfs` to its login, what is promised there, and apt with a mirror on the host. Making the disk takes minutes and 2 GB: only where VIVARIUM_ROOTFS is set.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { prepareRootfs } from '../../src/guest/index.ts';
import { RunningGuest } from './running-guest.ts';

/** A boot of systemd on a host whose processors are all busy, milliseconds. */
const PATIENCE = 400_000;

/** A mirror of one package on the host's loopback, which has one file. Its port. */
async function mirror(t: TestContext): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-mirror-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const control =
    'Package: probe\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a probe\n';
  const root = join(folder, 'root');
  for (const name of ['DEBIAN', 'etc']) mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'DEBIAN/control'), control);
  writeFileSync(join(root, 'etc/probe'), 'installed\n');
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', root, join(folder, 'probe.deb')], { stdio: 'ignore' });
  const deb = readFileSync(join(folder, 'probe.deb'));
  const sum = createHash('sha256').update(deb).digest('hex');
  const files: Readonly<Record<string, string | Buffer>> = {
    '/./Packages': `${control}Filename: ./probe.deb\nSize: ${deb.length}\nSHA256: ${sum}\n`,
    '/./probe.deb': deb,
  };
  const server = createServer((request, response) => {
    const file = files[request.url ?? ''];
    response.writeHead(file === undefined ? 404 : 200).end(file);
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

test('the root disk boots to a login of root, with apt and a compiler', async (t) => {
  if (process.env['VIVARIUM_ROOTFS'] === undefined)
    return t.skip('with VIVARIUM_ROOTFS=1 the root disk is made and booted');
  await prepareRootfs({ progress: () => {} });
  const port = await mirror(t);
  const guest = RunningGuest.run('--rootfs', '-p', 'quiet', '--net-allow', `127.0.0.1:${port}`);
  t.after(() => guest.kill());
  await guest.shell(PATIENCE);
  // systemd's own word: every unit has started.
  assert.equal(await guest.command('systemctl is-system-running --wait'), 'running\n');
  assert.equal(await guest.command('id -un; stat -f -c %T /; ps -o comm= 1'), 'root\next2/ext3\nsystemd\n');
  const source = 'int main(void) { return puts("compiled") < 0; }';
  assert.equal(await guest.command(`echo '${source}' >a.c && gcc -w -o a a.c && ./a`), 'compiled\n');
  assert.match(await guest.command('apt-cache policy gcc'), /^gcc:\n {2}Installed: \d/);
  // Services of packages that are installed start: nothing of the disk's making forbids it.
  assert.equal(await guest.command('ls /usr/sbin/policy-rc.d /sbin/start-stop-daemon.REAL 2>/dev/null'), '');
  // A mirror, by the user network.
  await guest.command(
    `rm -rf /etc/apt/sources.list*; echo 'deb [trusted=yes] http://10.0.2.2:${port} ./' >/etc/apt/sources.list`,
  );
  const installed = await guest.command('apt-get -qq update && apt-get -qq install probe && cat /etc/probe');
  assert.match(installed, /^installed\n$/m, installed);
  assert.deepEqual(guest.complaints, []);
  guest.send('poweroff\n');
  assert.deepEqual(await guest.end(), { status: 0, signal: null });
});
