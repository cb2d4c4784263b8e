/**
 * Where the guest may go. A rule names networks or DNS names, and ports; of the rules for names, and of those for networks, the
 * most specific that matches counts. A connection is denied if one of the two denies it, allowed if one of them allows it, and else
 * `*` rules count, and then the default: denied if the user allows anything by rule, allowed if not.
 */
import { type IpAddress, inNetwork, type Network, parseNetwork } from './address.ts';

/** A rule of the user, or of the house. */
export interface Rule {
  readonly allow: boolean;
  /** As the user wrote it. */
  readonly text: string;
  /** Lower case, without a final dot; `*.` at its beginning: all names below. Undefined: a rule for networks, or for everything. */
  readonly name?: string;
  readonly network?: Network;
  readonly ports?: { readonly first: number; readonly last: number };
  /** Not the user's: of two rules that are equally specific the user's counts. */
  readonly house?: true;
}

export interface Verdict {
  readonly allowed: boolean;
  /** The rule's text; undefined: the default. */
  readonly rule: string | undefined;
}

/** Reads TARGET[:PORT[-PORT]]; TARGET is a name, `*.` and a name, an address, a network, or `*`. Throws Error with what is wrong. */
export function parseRule(text: string, allow: boolean): Rule {
  const { target, ports } = splitPorts(text);
  const rule = { allow, text, ...(ports === undefined ? {} : { ports }) };
  if (target === '*' || target === '') {
    if (target === '' && ports === undefined) throw new Error('it names nothing');
    return rule;
  }
  const bracketed = /^\[(.*)\](\/\d+)?$/.exec(target);
  const network = parseNetwork(bracketed === null ? target : `${bracketed[1]}${bracketed[2] ?? ''}`);
  if (network !== undefined) return { ...rule, network };
  const name = normalName(target);
  if (
    /^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(name) &&
    !/^[\d.]+$/.test(name)
  ) {
    return { ...rule, name };
  }
  throw new Error(`${target} is no name, address or network`);
}

function splitPorts(text: string): { readonly target: string; readonly ports: Rule['ports'] } {
  // An IPv6 address without brackets has colons of its own.
  const ipv6 = !text.startsWith('[') && text.indexOf(':') !== text.lastIndexOf(':');
  const match = ipv6 ? null : /^(.*?):(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (match === null) return { target: text, ports: undefined };
  const first = Number(match[2]);
  const last = match[3] === undefined ? first : Number(match[3]);
  if (first < 1 || first > last || last > 65535) throw new Error('ports are from 1 to 65535, the lower first');
  return { target: match[1] as string, ports: { first, last } };
}

/** A DNS name as it is compared. */
function normalName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** Where nobody goes who is not allowed to by rule: what is not the public Internet. */
const houseRules = (): readonly Rule[] => [
  ...['0.0.0.0/8', '127.0.0.0/8', '::/127'].map(house('this host')),
  ...['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '198.18.0.0/15', 'fc00::/7', 'fec0::/10'].map(
    house('private network'),
  ),
  ...['169.254.0.0/16', 'fe80::/10'].map(house('link-local network')),
  // More specific than what they are in: who allows link-local addresses does not mean these.
  ...['169.254.169.254/32', '168.63.129.16/32', '100.100.100.200/32', 'fd00:ec2::254/128'].map(
    house('metadata service'),
  ),
  ...['192.0.0.0/24', '224.0.0.0/3', '100::/64', '64:ff9b:1::/48', '2002::/16', '::ffff:0:0/96', 'ff00::/8'].map(
    house('not a public address'),
  ),
];

function house(text: string): (network: string) => Rule {
  return (network) => ({ allow: false, text, network: parseNetwork(network) as Network, house: true });
}

/** Addresses that are made of an IPv4 address, which is the one that counts: NAT64 (RFC 6052). */
const NAT64: Network = { address: Uint8Array.of(0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), length: 96 };

export class Policy {
  readonly #rules: readonly Rule[];
  readonly #houseRules: readonly Rule[];
  readonly #default: Verdict;

  /** `ownAddresses`: those of the host's interfaces, which lead to the host as its loopback address does. */
  constructor(rules: readonly Rule[], ownAddresses: readonly IpAddress[]) {
    this.#rules = rules;
    const own = ownAddresses.map((address): Rule => {
      return { allow: false, text: 'this host', network: { address, length: address.length * 8 }, house: true };
    });
    this.#houseRules = [...houseRules(), ...own];
    this.#default = { allowed: !rules.some(({ allow }) => allow), rule: undefined };
  }

  /** May the guest reach this end point? `names`: the DNS names whose answers gave it the address. */
  decide(address: IpAddress, port: number, names: readonly string[]): Verdict {
    const asked = inNetwork(NAT64, address) ? address.subarray(12) : address;
    const matching = this.#rules.filter(
      ({ ports }) => ports === undefined || (port >= ports.first && port <= ports.last),
    );
    const byName = mostSpecific(
      matching.filter(({ name }) => name !== undefined && names.some((one) => covers(name, one))),
    );
    const inside = ({ network }: Rule): boolean => network !== undefined && inNetwork(network, asked);
    const byNetwork = mostSpecific([...matching.filter(inside), ...this.#houseRules.filter(inside)]);
    const decisive = [byName, byNetwork].filter((rule) => rule !== undefined);
    const rule =
      decisive.find(({ allow }) => !allow) ??
      decisive[0] ??
      mostSpecific(matching.filter(({ name, network }) => name === undefined && network === undefined));
    return rule === undefined ? this.#default : { allowed: rule.allow, rule: rule.text };
  }

  /** Is the address one that the guest may not reach at any port, whatever its name? Then it is not told either. */
  hides(address: IpAddress): boolean {
    const asked = inNetwork(NAT64, address) ? address.subarray(12) : address;
    const rules = [...this.#rules, ...this.#houseRules].filter(
      ({ network, ports, allow }) =>
        network !== undefined && inNetwork(network, asked) && (allow || ports === undefined),
    );
    return mostSpecific(rules)?.allow === false;
  }

  /** May the guest ask for this name? What it may not reach it need not know, and a question is a message, too. */
  decideName(name: string): Verdict {
    const rule =
      mostSpecific(
        this.#rules.filter(
          (one) => one.name !== undefined && covers(one.name, name) && (one.allow || one.ports === undefined),
        ),
      ) ??
      mostSpecific(
        this.#rules.filter(
          (one) => one.name === undefined && one.network === undefined && (one.allow || one.ports === undefined),
        ),
      );
    return rule === undefined ? this.#default : { allowed: rule.allow, rule: rule.text };
  }
}

function covers(pattern: string, name: string): boolean {
  return pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern;
}

/** Longer prefixes and names first, a name before a suffix, ports before none, then the user's rules, and then a denial. */
function mostSpecific(rules: readonly Rule[]): Rule | undefined {
  const weight = ({ name, network, ports, allow, house }: Rule): number => {
    const target = network?.length ?? (name === undefined ? 0 : name.length * 2 + (name.startsWith('*') ? 0 : 1));
    return target * 8 + (ports === undefined ? 0 : 4) + (house === true ? 0 : 2) + (allow ? 0 : 1);
  };
  let best: Rule | undefined;
  for (const rule of rules) if (best === undefined || weight(rule) > weight(best)) best = rule;
  return best;
}
