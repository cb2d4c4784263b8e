// `npm run bench -- net [--over user|tap|vhost] [--kvm]`: bytes over one TCP connection, guest to host and host to guest, on Vivarium and on QEMU.
//
// user   the user-mode network, and QEMU's (libslirp)
// tap    a tap each; makes network interfaces, so it wants root: a namespace does (`unshare -n`)
// vhost  a tap each, whose frames the kernel moves (vhost-net), on KVM
//
// On the built-in processor and QEMU's translator; with `--kvm` both on KVM, where there is one that runs any guest: in the lab.
//
// The same kernel and initramfs with net-pump.c in it, which is the host's end, too, and keeps the time. Both guests run, and take turns.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultGuest } from '../src/cli/guest.ts';
import { extendInitrd } from '../test/e2e/kernels.ts';
import { RunningGuest } from '../test/e2e/running-guest.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { summarize } from './lib/statistics.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
const PUMP = fileURLToPath(new URL('net-pump.c', import.meta.url));
const MEMORY = '256';
const MIB = 2 ** 20;
const LOOPBACK = '127.0.0.1';
/** A boot in the lab, milliseconds. */
const PATIENCE = 300_000;

const KINDS = {
  user: 'the user-mode network',
  tap: 'a tap',
  vhost: 'a tap by vhost-net',
} as const;
type Kind = keyof typeof KINDS;

const DIRECTIONS = { u: 'guest to host', d: 'host to guest' } as const;
type Direction = keyof typeof DIRECTIONS;

interface Machine {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The host, as the guest knows it. */
  readonly host: string;
  /** What gives the guest its address. */
  readonly setUp: string;
  /** Where the host's end listens. */
  readonly end: HostEnd;
  /** MiB a second. */
  readonly rates: Readonly<Record<Direction, number[]>>;
}

/** `net-pump serve`, and what it says. */
class HostEnd {
  readonly child: ChildProcess;
  readonly port: Promise<number>;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string, address: string, bytes: number) {
    const child = spawn(program, ['serve', address, '0', `${bytes}`], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.child = child;
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    this.port = this.#next(/^port (\d+)$/);
  }

  /** The number in the next line, which must be of this form. */
  async #next(form: RegExp): Promise<number> {
    const { value } = await this.#lines.next();
    const number = form.exec(value ?? '')?.[1];
    if (number === undefined) throw new Error(`the host's end of the connection says: ${value ?? 'nothing more'}`);
    return Number(number);
  }

  /** Seconds of the last transfer. */
  seconds(): Promise<number> {
    return this.#next(/^seconds ([\d.]+)$/);
  }
}

/** A tap of this name, up, with the host's address. */
function makeTap(name: string, address: string): void {
  execFileSync('ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap', 'vnet_hdr']);
  execFileSync('ip', ['addr', 'add', `${address}/24`, 'dev', name]);
  execFileSync('ip', ['link', 'set', name, 'up']);
}

function machines(
  { kind, kvm, kernel, initrd }: { kind: Kind; kvm: boolean; kernel: string; initrd: string },
  endAt: (address: string) => HostEnd,
): Machine[] {
  const vhost = kind === 'vhost';
  const ours = (): string[] => {
    if (kind === 'user') return ['--net-allow', LOOPBACK];
    return ['--tap', 'tap0', ...(vhost ? ['--vhost-net'] : [])];
  };
  const theirs =
    kind === 'user' ? 'user,id=n' : `tap,id=n,ifname=tap1,script=no,downscript=no${vhost ? ',vhost=on' : ''}`;
  const machine = (number: number, name: string, command: string, args: readonly string[]): Machine => {
    const base = { name, command, args, rates: { u: [], d: [] } };
    if (kind === 'user') {
      const setUp = 'until grep -q 10.0.2.3 /etc/resolv.conf 2>/dev/null; do sleep 1; done';
      return { ...base, host: '10.0.2.2', setUp, end: endAt(LOOPBACK) };
    }
    const host = `10.97.${number}.1`;
    makeTap(`tap${number}`, host);
    const setUp = `ip link set eth0 up; ip addr add 10.97.${number}.2/24 dev eth0; until ping -c 1 -W 1 ${host}; do sleep 1; done`;
    return { ...base, host, setUp, end: endAt(host) };
  };
  return [
    machine(0, 'Vivarium', process.execPath, [
      ...[VIVARIUM, 'run', '--hypervisor', kvm ? 'kvm' : 'soft', '--mem', MEMORY, '-p', 'quiet', ...ours()],
      ...['--initrd', initrd, kernel],
    ]),
    machine(1, `QEMU ${qemuVersion()}`, QEMU, [
      ...(kvm ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg']),
      ...['-M', 'q35', '-m', MEMORY, '-nographic', '-no-reboot', '-kernel', kernel, '-initrd', initrd],
      ...['-append', 'console=ttyS0 quiet', '-netdev', theirs, '-device', 'virtio-net-pci,netdev=n'],
    ]),
  ];
}

async function measure(all: readonly Machine[], bytes: number, runs: number): Promise<void> {
  const guests: RunningGuest[] = [];
  try {
    for (const { command, args, setUp } of all) {
      const guest = new RunningGuest(command, args);
      guests.push(guest);
      await guest.shell(PATIENCE);
      await guest.command(setUp);
    }
    for (let run = 0; run < runs; run++) {
      for (const [i, { name, host, end, rates }] of all.entries()) {
        const guest = guests[i] as RunningGuest;
        const port = await end.port;
        for (const direction of Object.keys(DIRECTIONS) as Direction[]) {
          await guest.command(`/net-pump ${direction} ${host} ${port} ${bytes}`);
          const rate = bytes / MIB / (await end.seconds());
          rates[direction].push(rate);
          process.stdout.write(`${name}: ${DIRECTIONS[direction]} ${rate.toFixed(0)} MiB/s\n`);
        }
      }
    }
  } finally {
    for (const guest of guests) await guest.kill();
  }
}

export async function netBench(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      over: { type: 'string', default: 'user' },
      kvm: { type: 'boolean', default: false },
      size: { type: 'string', default: '64' },
      runs: { type: 'string', default: '5' },
    },
  });
  const runs = parseRuns(values.runs);
  const size = Number(values.size);
  if (!Number.isInteger(size) || size < 1) throw new Error('--size takes MiB');
  if (!Object.hasOwn(KINDS, values.over)) throw new Error(`--over takes ${Object.keys(KINDS).join(', ')}`);
  const kind = values.over as Kind;
  const kvm = values.kvm || kind === 'vhost';
  const guest = await defaultGuest();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-net-'));
  const ends: HostEnd[] = [];
  try {
    const program = join(folder, 'net-pump');
    execFileSync('gcc', ['-static', '-O2', '-o', program, PUMP]);
    const initrd = join(folder, 'initrd');
    extendInitrd(guest, [{ type: 'file', name: 'net-pump', mode: 0o755, data: readFileSync(program) }], initrd);
    const all = machines({ kind, kvm, kernel: guest.kernel, initrd }, (address) => {
      const end = new HostEnd(program, address, size * MIB);
      ends.push(end);
      return end;
    });
    await measure(all, size * MIB, runs);
    const results = all.map(({ name, rates }) => ({ name, u: summarize(rates.u), d: summarize(rates.d) }));
    const reference = results.at(-1)!;
    const rows = (Object.keys(DIRECTIONS) as Direction[]).flatMap((direction) =>
      results.map((result) => {
        const { median, min, max } = result[direction];
        const figures = [median, min, max].map((rate) => rate.toFixed(0));
        const ratio = (median / reference[direction].median).toFixed(2);
        return [DIRECTIONS[direction], result.name, `${runs}`, ...figures, ratio];
      }),
    );
    const host = describeHost();
    const page = table([['direction', 'machine', 'runs', 'median', 'min', 'max', 'of QEMU'], ...rows]);
    process.stdout.write(`${page}\n`);
    const command = `npm run bench -- net --over ${kind}${values.kvm ? ' --kvm' : ''}`;
    writeResults(
      `net${kind === 'user' ? '' : `-${kind}`}${values.kvm ? '-kvm' : ''}`,
      { host, size, machines: results },
      `# One TCP connection over ${KINDS[kind]}${kvm ? ', on KVM' : ''}, MiB/s\n\nMade by \`${command}\`: ${size} MiB at a time, ` +
        `calls of 64 KiB, in turns; ${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, ` +
        `Node ${host.node}.\n\n${page}\n`,
    );
  } finally {
    for (const { child } of ends) child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}
