// `npm run bench -- net`: bytes through the user-mode network, guest to host and host to guest, on Vivarium and on QEMU's translator
// with its own (-netdev user, libslirp), in turns: the same kernel and initramfs, net-pump.c in it. Measured by the host's end, first to last byte.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultGuest } from '../src/cli/guest.ts';
import type { Guest } from '../src/guest/index.ts';
import { extendInitrd } from '../test/e2e/kernels.ts';
import { RunningGuest } from '../test/e2e/running-guest.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { summarize } from './lib/statistics.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
const MEMORY = '512';
const MIB = 2 ** 20;
/** Pieces that the host sends. */
const PIECE = Buffer.alloc(256 * 1024, 0x5a);

interface Rates {
  readonly toHost: number[];
  readonly toGuest: number[];
}

/** Takes what one connection sends. Resolves with MiB a second. */
async function measureReceiving(server: Server, bytes: number): Promise<number> {
  const [socket] = await once(server, 'connection');
  let got = 0;
  let start = 0;
  socket.on('data', (piece: Buffer) => {
    if (got === 0) start = performance.now();
    got += piece.length;
  });
  await once(socket, 'end');
  const time = performance.now() - start;
  socket.end();
  if (got !== bytes) throw new Error(`${got} bytes came instead of ${bytes}`);
  return bytes / MIB / (time / 1000);
}

/** Sends to one connection, and waits for the guest to close it. */
async function measureSending(server: Server, bytes: number): Promise<number> {
  const [socket] = await once(server, 'connection');
  const start = performance.now();
  socket.resume();
  for (let left = bytes; left > 0; left -= PIECE.length) {
    if (!socket.write(PIECE.subarray(0, Math.min(left, PIECE.length)))) await once(socket, 'drain');
  }
  socket.end();
  await once(socket, 'close');
  return bytes / MIB / ((performance.now() - start) / 1000);
}

/** Writes the guest's initrd with net-pump in it: busybox nc moves a KiB or two a call, and measures only itself. */
function addPump(guest: Guest, folder: string, initrd: string): void {
  const program = join(folder, 'net-pump');
  execFileSync('gcc', ['-static', '-O2', '-o', program, fileURLToPath(new URL('net-pump.c', import.meta.url))]);
  extendInitrd(guest, [{ type: 'file', name: 'net-pump', mode: 0o755, data: readFileSync(program) }], initrd);
}

async function measure(guest: RunningGuest, rates: Rates, size: number, runs: number): Promise<void> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await guest.shell();
  await guest.command('until grep -q 10.0.2.3 /etc/resolv.conf 2>/dev/null; do sleep 1; done');
  for (let i = 0; i < runs; i++) {
    const received = measureReceiving(server, size * MIB);
    await guest.command(`/net-pump 10.0.2.2 ${port} ${size * MIB}`);
    rates.toHost.push(await received);
    const sent = measureSending(server, size * MIB);
    await guest.command(`/net-pump 10.0.2.2 ${port} 0`);
    rates.toGuest.push(await sent);
  }
  server.close();
  guest.send('poweroff\n');
  await guest.end();
}

export async function netBench(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { size: { type: 'string', default: '64' }, runs: { type: 'string', default: '5' } },
  });
  const [size, runs] = [Number(values.size), Number(values.runs)];
  if (!Number.isInteger(size) || size < 1 || !Number.isInteger(runs) || runs < 1) {
    throw new Error('--size takes MiB, --runs a number');
  }
  const guest = await defaultGuest();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-net-'));
  const initrd = join(folder, 'initrd');
  addPump(guest, folder, initrd);
  const qemu = qemuVersion();
  const rates: Record<'vivarium' | 'qemu', Rates> = {
    vivarium: { toHost: [], toGuest: [] },
    qemu: { toHost: [], toGuest: [] },
  };
  const vivarium = [
    VIVARIUM,
    'run',
    '--hypervisor',
    'soft',
    '--mem',
    MEMORY,
    '--net-allow',
    '127.0.0.1',
    ...['-p', 'quiet', '--initrd', initrd, guest.kernel],
  ];
  await measure(new RunningGuest(process.execPath, vivarium), rates.vivarium, size, runs);
  const qemuArgs = [
    ...['-accel', 'tcg', '-M', 'q35', '-m', MEMORY, '-nographic', '-no-reboot'],
    ...['-kernel', guest.kernel, '-initrd', initrd],
    ...['-append', 'console=ttyS0 quiet', '-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n'],
  ];
  await measure(new RunningGuest(QEMU, qemuArgs), rates.qemu, size, runs);
  rmSync(folder, { recursive: true });

  const row = (what: string, name: string, values: readonly number[]): string[] => {
    const { median, min, max } = summarize(values);
    return [what, name, `${values.length}`, ...[median, min, max].map((rate) => rate.toFixed(0))];
  };
  const rows = [
    ['direction', 'machine', 'runs', 'median', 'min', 'max'],
    row('guest to host', 'Vivarium', rates.vivarium.toHost),
    row('guest to host', qemu, rates.qemu.toHost),
    row('host to guest', 'Vivarium', rates.vivarium.toGuest),
    row('host to guest', qemu, rates.qemu.toGuest),
  ];
  const host = describeHost();
  const page = `# One TCP connection through the user-mode network, MiB/s

${size} MiB at a time, calls of 64 KiB in the guest. ${host.cpu}, ${host.cores} cores, Node ${host.node}, ${host.date.slice(0, 10)}.

${table(rows)}
`;
  process.stdout.write(`${table(rows)}\n`);
  writeResults('net', { host, qemu, size, rates }, page);
}
