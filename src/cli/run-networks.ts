// The options of `run` that give the guest networks.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseAddress } from '../net/address.ts';
import type { PublishedPort } from '../net/config.ts';
import { parseRule } from '../net/policy.ts';
import type { NetConfig } from '../virtio/net/config.ts';
import { asIs, collectParsed, once, oneOf } from './options.ts';

const NETWORKS = ['user', 'none'] as const;

export interface NetworkOptions {
  readonly net?: (typeof NETWORKS)[number];
  readonly netAllow?: readonly string[];
  readonly netDeny?: readonly string[];
  readonly netLog?: string;
  readonly publish?: readonly PublishedPort[];
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
    );
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

/** The networks that the options ask for. Throws Error where they contradict each other. */
export function networksOf(options: NetworkOptions): NetConfig[] {
  const { net, netAllow = [], netDeny = [], netLog, publish = [] } = options;
  if (net === 'none') {
    const unused = [
      ...(netAllow.length > 0 ? ['--net-allow'] : []),
      ...(netDeny.length > 0 ? ['--net-deny'] : []),
      ...(netLog === undefined ? [] : ['--net-log']),
      ...(publish.length > 0 ? ['--publish'] : []),
    ];
    if (unused.length > 0) throw new Error(`${unused[0]}: it is for --net user: leave one of the two out`);
    return [];
  }
  return [{ kind: 'user', allow: netAllow, deny: netDeny, published: publish, log: netLog }];
}
