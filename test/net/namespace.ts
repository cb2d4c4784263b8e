// A network namespace whose only way out is the user network: this machine's Linux is the guest.
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { UserNetworkConfig } from '../../src/net/config.ts';
import type { TapNetworkOptions } from './tap-network.ts';

const NETWORK = fileURLToPath(new URL('tap-network.ts', import.meta.url));
/** What udhcpc runs: sets the interface up, and prints what it was told. */
const LEASE_SCRIPT = `#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "lease $ip/$mask $router $dns $mtu"
`;

export const GUEST_MAC = '52:54:00:12:34:56';

/** Why namespaces or taps cannot be made here; false if they can. */
export function namespacesMissing(): string | false {
  const probe = `vmprobe${process.pid}`;
  const added = spawnSync('ip', ['netns', 'add', probe]).status === 0;
  if (added) spawnSync('ip', ['netns', 'del', probe]);
  if (!added) return 'network namespaces cannot be made here';
  const tap = spawnSync('ip', ['tuntap', 'add', 'dev', probe, 'mode', 'tap']).status === 0;
  if (tap) spawnSync('ip', ['link', 'del', probe]);
  return tap ? false : 'tap devices cannot be made here';
}

/** Namespaces that this process has made. */
let made = 0;

/** Names of namespaces that nobody else has. */
const newName = (): string => `vm${process.pid}-${++made}`;

/** A namespace that stands for the host: an address of its own that is not its loopback, and sockets for pings or none. */
export class HostNamespace {
  readonly name = newName();

  constructor(addresses: readonly string[], { pings }: { readonly pings: boolean }) {
    execFileSync('ip', ['netns', 'add', this.name]);
    const setUp = [
      'ip link set lo up',
      ...addresses.map((address) => `ip addr add ${address} dev lo`),
      `sysctl -qw net.ipv4.ping_group_range='${pings ? '0 2147483647' : '1 0'}'`,
    ];
    this.run('sh', '-ec', setUp.join('\n'));
  }

  /** Runs a command there; throws when it fails. */
  run(...command: readonly string[]): void {
    execFileSync('ip', ['netns', 'exec', this.name, ...command]);
  }

  remove(): void {
    spawnSync('ip', ['netns', 'del', this.name]);
  }
}

export interface Ran {
  readonly status: number | null;
  readonly output: string;
  readonly errors: string;
}

export class GuestNamespace {
  /** What the lease said. */
  lease = '';
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #folder: string;

  private constructor(name: string, child: ChildProcess, folder: string) {
    this.name = name;
    this.#child = child;
    this.#folder = folder;
  }

  /** A namespace with an address by DHCP, and one by SLAAC. `host`: where the network is; with this process if not given. */
  static async start(
    settings: Partial<UserNetworkConfig> = {},
    options: Partial<Omit<TapNetworkOptions, 'config'>> = {},
    host?: HostNamespace,
  ): Promise<GuestNamespace> {
    const folder = mkdtempSync(join(tmpdir(), 'vivarium-net-'));
    const config: UserNetworkConfig = {
      mac: GUEST_MAC.split(':').map((byte) => Number.parseInt(byte, 16)),
      mtu: 1500,
      allow: [],
      deny: [],
      nameServers: [],
      hostAddresses: [],
      published: [],
      ...settings,
    };
    const all: TapNetworkOptions = { config, offloads: true, log: join(folder, 'log'), ...options };
    const command = [process.execPath, NETWORK, JSON.stringify(all)];
    const [program = '', ...args] = host === undefined ? command : ['ip', 'netns', 'exec', host.name, ...command];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const tap = await new Promise<string>((resolve, reject) => {
      child.stdout?.setEncoding('utf8').once('data', (text: string) => resolve(text.trim()));
      child.once('exit', () => reject(new Error('the network did not start')));
    });
    const name = newName();
    const guest = new GuestNamespace(name, child, folder);
    execFileSync('ip', ['netns', 'add', name]);
    const there = host === undefined ? [] : ['-n', host.name];
    execFileSync('ip', [...there, 'link', 'set', tap, 'netns', name]);
    const script = join(folder, 'lease');
    writeFileSync(script, LEASE_SCRIPT, { mode: 0o755 });
    const setUp = [
      'ip link set lo up',
      // Two of them would be the same address of the same link.
      `sysctl -qw net.ipv6.conf.${tap}.accept_dad=0`,
      `ip link set ${tap} address ${GUEST_MAC} up`,
      `exec busybox udhcpc -q -n -f -i ${tap} -s ${script}`,
    ];
    const { output, errors } = await guest.run('sh', '-c', setUp.join('\n'));
    guest.lease = /^lease (.*)$/m.exec(output)?.[1] ?? `none: ${output}${errors}`;
    return guest;
  }

  /** Runs a command in the namespace. */
  run(...command: readonly string[]): Promise<Ran> {
    return new Promise((resolve) => {
      const options = { timeout: 60_000, maxBuffer: 2 ** 26 };
      const child = execFile('ip', ['netns', 'exec', this.name, ...command], options, (_, output, errors) =>
        resolve({ status: child.exitCode, output, errors }),
      );
      child.stdin?.end();
    });
  }

  /** Starts a command in the namespace. */
  spawn(...command: readonly string[]): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  /** Lines of the log so far. */
  get log(): Record<string, unknown>[] {
    const text = readFileSync(join(this.#folder, 'log'), 'utf8');
    return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Record<string, unknown>]));
  }

  /** Waits for a line of the log with these fields. */
  async logged(fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    for (let left = 200; left > 0; left--) {
      const line = this.log.find((one) => Object.entries(fields).every(([name, value]) => one[name] === value));
      if (line !== undefined) return line;
      await sleep(50);
    }
    throw new Error(
      `not logged: ${JSON.stringify(fields)}\n${this.log.map((line) => JSON.stringify(line)).join('\n')}`,
    );
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await ended;
    spawnSync('ip', ['netns', 'del', this.name]);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
