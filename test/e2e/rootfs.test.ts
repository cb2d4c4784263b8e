// `vivarium run --rootfs` to its login, what is promised there, apt with a mirror on the host, iperf3, and the host's way in by SSH. Making the disk takes minutes and 2 GB: only where VIVARIUM_ROOTFS is set.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { prepareRootfs } from '../../src/guest/index.ts';
import { RunningGuest } from './running-guest.ts';

/** A boot of systemd on a host whose processors are all busy, milliseconds. */
const PATIENCE = 400_000;

/** A server and a client of SSH, iperf3, and what they need. */
const PACKAGES = [
  ...['dropbear-bin', 'libtomcrypt1', 'libtommath1', 'libgmp10'],
  ...['iperf3', 'libiperf0', 'libsctp1', 'libssl3', 'adduser'],
];

/** Debian's packages, unpacked in `folder`, and a mirror of them on the host's loopback. Its port. */
async function mirror(t: TestContext, folder: string): Promise<number> {
  const files = new Map<string, string | Buffer>();
  let index = '';
  execFileSync('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', ...PACKAGES], { cwd: folder });
  for (const name of readdirSync(folder)) {
    const deb = join(folder, name);
    execFileSync('dpkg-deb', ['-x', deb, folder]);
    const bytes = readFileSync(deb);
    const sum = createHash('sha256').update(bytes).digest('hex');
    files.set(`/./${sum}`, bytes);
    const control = execFileSync('dpkg-deb', ['-f', deb], { encoding: 'utf8' });
    index += `${control}Filename: ./${sum}\nSize: ${bytes.length}\nSHA256: ${sum}\n\n`;
  }
  files.set('/./Packages', index);
  const server = createServer((request, response) => {
    const file = files.get(request.url ?? '');
    response.writeHead(file === undefined ? 404 : 200).end(file);
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A port of the host that nobody has. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

test('the root disk boots to a login of root, with apt, a compiler and the network', async (t) => {
  if (process.env['VIVARIUM_ROOTFS'] === undefined)
    return t.skip('with VIVARIUM_ROOTFS=1 the root disk is made and booted');
  await prepareRootfs({ progress: () => {} });
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-mirror-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const port = await mirror(t, folder);
  const [published, speed] = [await freePort(), await freePort()];
  const guest = RunningGuest.run(
    ...['--rootfs', '-p', 'quiet', '--net-allow', `127.0.0.1:${port}`, '--net-allow', `127.0.0.1:${speed}`],
    ...['--publish', `${published}:22`],
  );
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
  const installed = await guest.command(
    'export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install dropbear-bin iperf3 && echo installed',
  );
  assert.match(installed, /^installed\n$/m, installed);
  // Both ways by TCP, and by UDP.
  const env = { ...process.env, HOME: folder, LD_LIBRARY_PATH: join(folder, 'usr/lib/x86_64-linux-gnu') };
  const server = spawn(join(folder, 'usr/bin/iperf3'), ['-s', '-B', '127.0.0.1', '-p', `${speed}`], {
    env,
    stdio: 'ignore',
  });
  t.after(() => server.kill('SIGKILL'));
  for (const options of ['-n 32M', '-n 32M -R', '-u -b 20M -n 4M', '-n 32M -P 4']) {
    assert.match(await guest.command(`iperf3 -c 10.0.2.2 -p ${speed} ${options}`), /^iperf Done\.$/m);
  }
  // The host comes in by the published port.
  const ssh = (program: string, args: readonly string[], input?: Buffer): Buffer => {
    const stdio = ['pipe', 'pipe', 'ignore'] as const;
    return execFileSync(join(folder, 'usr/bin', program), args, { env, input, stdio: [...stdio], timeout: PATIENCE });
  };
  const key = join(folder, 'key');
  const [line] = /^ssh-ed25519 .*$/m.exec(ssh('dropbearkey', ['-t', 'ed25519', '-f', key]).toString()) ?? [];
  await guest.command(
    `mkdir -p -m 700 /root/.ssh /etc/dropbear; echo '${line}' >/root/.ssh/authorized_keys; dropbear -R -s -p 22`,
  );
  const login = ['-y', '-y', '-i', key, '-p', `${published}`, 'root@127.0.0.1'];
  assert.equal(ssh('dbclient', [...login, 'id -un; uname -n']).toString(), `root\n${await guest.command('uname -n')}`);
  const data = randomBytes(2 ** 20);
  assert.ok(ssh('dbclient', [...login, 'cat'], data).equals(data));
  assert.deepEqual(guest.complaints, []);
  guest.send('poweroff\n');
  assert.deepEqual(await guest.end(), { status: 0, signal: null });
});
