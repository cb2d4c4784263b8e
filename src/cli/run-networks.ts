// The options of `run` that give the guest networks.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseAddress } from '../net/address.ts';
import type { PublishedPort } from '../net/config.ts';
import { parseRule } from '../net/policy.ts';
import { DEFAULT_TAP, type NetConfig, type TapNetConfig } from '../virtio/net/config.ts';
import { asIs, collectParsed, integer, once, oneOf } from './options.ts';

const NETWORKS = ['user', 'none'] as const;

export interface NetworkOptions {
  readonly net?: (typeof NETWORKS)[number];
  readonly netAllow?: readonly string[];
  readonly netDeny?: readonly string[];
  readonly netLog?: string;
  readonly publish?: readonly PublishedPort[];
  readonly tap?: string;
  readonly tapFd?: number;
  readonly host_ip?: Uint8Array;
  readonly netmask?: Uint8Array;
  readonly mac?: Uint8Array;
  readonly vhostNet?: boolean;
}

export function addNetworkOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--net <KIND>', 'the network of the guest: through sockets of this user, or none (default: "user")')
        .choices(NETWORKS)
        .argParser(once(oneOf(NETWORKS))),
    )
    .addOption(
      new Option(
        '--net-allow <TARGET[:PORT[-PORT]]>',
        'the guest may connect to this name, *.suffix, address, network or * (all that is public), and to nothing that is not named; may be repeated',
      ).argParser(collectParsed(rule(true))),
    )
    .addOption(
      new Option('--net-deny <TARGET[:PORT[-PORT]]>', 'the guest may not connect to this; may be repeated').argParser(
        collectParsed(rule(false)),
      ),
    )
    .addOption(
      new Option('--net-log <PATH>', 'append what the guest connects to, a JSON object a line').argParser(once(asIs)),
    )
    .addOption(
      new Option(
        '--publish <[HOSTIP:]HOST:GUEST[/tcp|udp]>',
        'lead this port of the host to a port of the guest; may be repeated (default HOSTIP: 127.0.0.1)',
      ).argParser(collectParsed(parsePublished)),
    )
    .addOption(
      new Option('--tap <NAME>', 'a network card on this tap, which is made if it is not there').argParser(
        once(parseInterface),
      ),
    )
    .addOption(
      new Option('--tap-fd <FD>', 'a network card on a tap that is open as this descriptor').argParser(
        once(integer(0, 2 ** 31 - 1, 'a descriptor')),
      ),
    )
    .addOption(
      new Option('--host_ip <ADDRESS>', 'IPv4 address of the host on a tap; with --netmask and --mac').argParser(
        once(ipv4),
      ),
    )
    .addOption(new Option('--netmask <MASK>', 'netmask of the host on a tap').argParser(once(ipv4)))
    .addOption(new Option('--mac <MAC>', 'hardware address of the host on a tap').argParser(once(hardwareAddress)))
    .addOption(
      new Option(
        '--vhost-net',
        "the host's kernel moves the frames of the tap (KVM; a tap given with --tap-fd stays ours)",
      ),
    );
}

/** IFNAMSIZ, and what the kernel refuses in a name; one `%d` stands for a number. */
function parseInterface(text: string): string {
  if (/^[^\s/:%]+(%d)?$/.test(text) && text !== '.' && text !== '..' && text.length <= 15) return text;
  throw new InvalidArgumentError('it takes the name of an interface, up to 15 characters');
}

function ipv4(text: string): Uint8Array {
  const address = parseAddress(text);
  if (address?.length !== 4) throw new InvalidArgumentError('it takes an IPv4 address');
  return address;
}

function hardwareAddress(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) {
    throw new InvalidArgumentError('it takes six bytes in hexadecimal with colons between, as 02:00:00:00:00:01');
  }
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

function rule(allow: boolean): (text: string) => string {
  return (text) => {
    try {
      parseRule(text, allow);
      return text;
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}

function port(text: string): number {
  const value = Number(text);
  if (value < 1 || value > 65535) throw new InvalidArgumentError(`${text} is no port: ports are from 1 to 65535`);
  return value;
}

function parsePublished(text: string): PublishedPort {
  const match = /^(?:(\[[^\]]*\]|[^:\]]*):)?(\d{1,6}):(\d{1,6})(?:\/(tcp|udp))?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('it takes [HOSTIP:]HOST:GUEST[/tcp|udp], as 8080:80');
  const [, address = '127.0.0.1', hostPort = '', guestPort = '', protocol = 'tcp'] = match;
  const hostAddress = address.replace(/^\[(.*)\]$/, '$1');
  if (parseAddress(hostAddress) === undefined) {
    throw new InvalidArgumentError(`${address} is no address of this host: give one as 127.0.0.1 or [::1]`);
  }
  return {
    protocol: protocol === 'udp' ? 'udp' : 'tcp',
    hostAddress,
    hostPort: port(hostPort),
    guestPort: port(guestPort),
  };
}

/** Names of the options that are there. */
function given(options: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(options).filter((name) => {
    const value = options[name];
    return value !== undefined && !(Array.isArray(value) && value.length === 0);
  });
}

/** The networks that the options ask for. Throws Error where they contradict each other. */
export function networksOf(options: NetworkOptions): NetConfig[] {
  const { net, netAllow = [], netDeny = [], netLog, publish = [] } = options;
  const tap = tapOf(options);
  const user = net === 'user' || (net === undefined && tap === undefined);
  if (!user) {
    const [unused] = given({
      '--net-allow': netAllow,
      '--net-deny': netDeny,
      '--net-log': netLog,
      '--publish': publish,
    });
    if (unused !== undefined) throw new Error(`${unused}: it is for the user network: add --net user or leave it out`);
  }
  if (options.vhostNet && tap === undefined) throw new Error('--vhost-net: it is for a tap: add --tap');
  return [
    ...(user ? [{ kind: 'user', allow: netAllow, deny: netDeny, published: publish, log: netLog } as const] : []),
    ...(tap === undefined ? [] : [tap]),
  ];
}

function tapOf({ tap, tapFd, host_ip, netmask, mac, vhostNet: vhost }: NetworkOptions): TapNetConfig | undefined {
  const ends = given({ '--host_ip': host_ip, '--netmask': netmask, '--mac': mac });
  if (ends.length !== 0 && ends.length !== 3) {
    throw new Error(`${ends[0]}: --host_ip, --netmask and --mac go together: give all three`);
  }
  if (tapFd !== undefined) {
    const [other] = [...ends, ...given({ '--tap': tap })];
    if (other !== undefined)
      throw new Error(`${other}: a tap that is open is set up already: leave out ${other} or --tap-fd`);
    return { kind: 'tap', tap: { fd: tapFd } };
  }
  if (tap === undefined && ends.length === 0) return undefined;
  return { kind: 'tap', tap: { name: tap ?? DEFAULT_TAP }, vhost, address: host_ip, netmask, mac };
}
