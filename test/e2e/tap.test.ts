// A guest on a tap. Namespaces stand for hosts: the tap is a port of a bridge in one, whose other port leads to the other, where
// Linux is the guest's peer, and the frames are seen as they are.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { namespacesMissing } from '../net/namespace.ts';
import { PROGRAM, RunningGuest } from './running-guest.ts';

const NAMES = { bridge: `vmb${process.pid}`, peer: `vmp${process.pid}` };
const GUEST = '10.98.7.2';
const PEER = '10.98.7.1';
const MIB = 2 ** 20;

/** Of bytes, as sha256sum prints it. */
const sha256 = (bytes: Uint8Array): string => `${createHash('sha256').update(bytes).digest('hex')}\n`;

function ip(...args: readonly string[]): void {
  execFileSync('ip', args);
}

/** Prints what goes over the peer's interface: Ethernet source and type, IP protocol, bytes on the wire. */
const SNIFFER = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('wire', 0))
print('ready', flush=True)
while True:
  frame = s.recv(70000)
  print(frame[6:12].hex(':'), frame[12:14].hex(), frame[23] if frame[12:14] == b'\\x08\\x00' else '-', len(frame), flush=True)
`;

/** The two namespaces, joined. The bridge learns of the tap from the test's own Vivarium, which runs in the first. */
function joinNamespaces(t: TestContext): void {
  const { bridge, peer } = NAMES;
  for (const name of [bridge, peer]) {
    ip('netns', 'add', name);
    t.after(() => ip('netns', 'del', name));
  }
  ip('-n', bridge, 'link', 'add', 'name', 'hub', 'type', 'bridge');
  ip('-n', bridge, 'tuntap', 'add', 'dev', 'tap', 'mode', 'tap', 'vnet_hdr');
  ip('-n', bridge, 'link', 'add', 'port', 'type', 'veth', 'peer', 'name', 'wire', 'netns', peer);
  for (const port of ['tap', 'port']) ip('-n', bridge, 'link', 'set', port, 'master', 'hub', 'up');
  ip('-n', bridge, 'link', 'set', 'hub', 'up');
  ip('-n', peer, 'addr', 'add', `${PEER}/24`, 'dev', 'wire');
  ip('-n', peer, 'link', 'set', 'wire', 'up');
}

/** Starts a program in the peer's namespace. */
function atPeer(t: TestContext, command: readonly string[]): ChildProcess {
  const child = spawn('ip', ['netns', 'exec', NAMES.peer, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

test('a guest on a tap speaks with the other hosts of its network', { skip: namespacesMissing() }, async (t) => {
  const data = randomBytes(4 * MIB);
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-tap-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'data'), data);
  joinNamespaces(t);
  const run = [process.execPath, PROGRAM, 'run', '--hypervisor', 'soft', '--tap', 'tap', '-p', 'quiet'];
  const guest = new RunningGuest('ip', ['netns', 'exec', NAMES.bridge, ...run]);
  t.after(() => guest.kill());
  await guest.shell();
  const [own] = /([0-9a-f]{2}:){5}[0-9a-f]{2}/.exec(await guest.command('cat /sys/class/net/eth0/address')) ?? [];

  const sniffer = atPeer(t, ['python3', '-c', SNIFFER]);
  let frames = '';
  sniffer.stdout!.setEncoding('utf8').on('data', (text: string) => {
    frames += text;
  });
  await once(sniffer.stdout!, 'data');
  await guest.command(`ip link set eth0 up; ip addr add ${GUEST}/24 dev eth0; arping -c 1 -I eth0 ${PEER}`);
  for (const size of [56, 20_000]) {
    assert.match(await guest.command(`ping -c 1 -W 10 -s ${size} ${PEER}`), / 0% packet loss/);
  }

  // Both ways, in segments of many packets.
  atPeer(t, ['busybox', 'httpd', '-f', '-p', '80', '-h', folder]);
  // Who listens may need a moment.
  await guest.command(`until wget -q -O /tmp/data http://${PEER}/data; do sleep 1; done`);
  const fetched = await guest.command("sha256sum </tmp/data | cut -d' ' -f1");
  assert.equal(fetched, sha256(data));
  const taker = atPeer(t, ['nc', '-d', '-l', '5000']);
  const pieces: Buffer[] = [];
  taker.stdout!.on('data', (piece: Buffer) => pieces.push(piece));
  const ended = once(taker, 'close');
  await guest.command(`until nc ${PEER} 5000 </tmp/data; do sleep 1; done`);
  await ended;
  assert.equal(sha256(Buffer.concat(pieces)), sha256(data));

  // ARP, ICMP, TCP, and a segment of many packets.
  const wanted = [/^0806 - /, /^0800 1 /, /^0800 6 /, /^0800 6 \d{5}/];
  const seen = (): string[] => frames.split('\n').flatMap((line) => (line.startsWith(`${own} `) ? line.slice(18) : []));
  for (let left = 100; !wanted.every((kind) => seen().some((line) => kind.test(line))); left--) {
    assert.ok(left > 0, seen().slice(0, 100).join('\n'));
    await sleep(100);
  }

  // The cable is pulled: the guest learns it when it sends, and that it is back when something comes.
  const carrier = (state: 0 | 1): Promise<string> =>
    guest.command(`until grep -q ${state} /sys/class/net/eth0/carrier; do sleep 1; done`);
  await carrier(1);
  ip('-n', NAMES.bridge, 'link', 'set', 'tap', 'down');
  await guest.command(`ping -c 1 -W 1 ${PEER}`);
  await carrier(0);
  ip('-n', NAMES.bridge, 'link', 'set', 'tap', 'up');
  const knock = atPeer(t, ['ping', '-i', '0.2', GUEST]);
  await carrier(1);
  knock.kill();
  assert.match(await guest.command(`ping -c 1 -W 10 ${PEER}`), / 0% packet loss/);
  // It is removed: the link is down, and the machine goes on.
  ip('-n', NAMES.bridge, 'link', 'del', 'tap');
  await carrier(0);
  guest.send('poweroff\n');
  assert.equal((await guest.end()).status, 0, guest.errors);
  assert.deepEqual(guest.complaints, []);
});
