// `vivarium 9s` on vsock, with Linux's own client: the kernel connects to itself, where it has the module vsock_loopback.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { Place } from '../cli/vivarium.ts';
import { PROGRAM } from '../e2e/running-guest.ts';

const missing = ['vsock_loopback', '9pnet_fd'].filter((name) => !existsSync(`/sys/module/${name}`));
const skip = missing.length > 0 && `the kernel has not loaded ${missing.join(' and ')}`;
/** VMADDR_CID_LOCAL. */
const LOCAL = '1';

const place = new Place();
after(() => place.remove());
const root = place.path('root');
const mount = place.path('mount');
for (const folder of [root, mount]) mkdirSync(folder);

/** Connects to a port (argv[1]) of this machine, mounts what is there (argv[2]), and runs a command (argv[3]). */
const CLIENT = `
import socket, subprocess, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.connect((${LOCAL}, int(sys.argv[1])))
fd = s.fileno()
options = f'trans=fd,rfdno={fd},wfdno={fd},version=9p2000.L,msize=131072'
subprocess.run(['mount', '-t', '9p', '-o', options, 'none', sys.argv[2]], check=True, pass_fds=[fd])
subprocess.run(['sh', '-ec', sys.argv[3]], check=True, cwd=sys.argv[2])
`;
/** Connects to a port, and prints what comes before the end. */
const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.connect((${LOCAL}, int(sys.argv[1])))
print(s.recv(100))
`;
const run = promisify(execFile);

async function start(t: TestContext, port: number, cid: string): Promise<void> {
  const child: ChildProcess = spawn(
    process.execPath,
    [PROGRAM, '9s', '-r', root, '--accept_cid', cid, `vsock:${port}`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string];
  assert.equal(line, `${root} is served at vsock:${port}\n`);
}

test('a directory is mounted over vsock, by the machine that may', { skip }, async (t) => {
  const [port, other] = [20_000 + (process.pid % 20_000), 40_000 + (process.pid % 20_000)];
  const data = randomBytes(3 * 2 ** 20);
  writeFileSync(`${root}/from-server`, data);
  await start(t, port, LOCAL);
  const work = 'cp from-server copy; mkdir folder; mv copy folder; sync; ls folder';
  // The mount goes with its namespace.
  const { stdout } = await run('unshare', ['-m', 'python3', '-c', CLIENT, String(port), mount, work]);
  assert.equal(stdout, 'copy\n');
  assert.deepEqual(readFileSync(`${root}/folder/copy`), data);

  await start(t, other, '7');
  assert.equal((await run('python3', ['-c', LISTENER, String(other)])).stdout, "b''\n");
  const second = await place.run(['9s', '-r', root, '--accept_cid', LOCAL, `vsock:${port}`]);
  assert.match(second.stderr, /^vivarium: vsock:\d+: nobody can connect there: bind: .*in use\n$/);
  assert.equal(second.status, 1);
});
