// The subcommand `9s`.

import { Command, InvalidArgumentError, Option } from 'commander';
import { type Listener, serve9P } from '../9s/start.ts';
import { parseAddress } from '../net/address.ts';
import { asIs, integer, once } from './options.ts';
import { directory } from './shared-dirs.ts';

/** 0xffffffff is any port, or any machine. */
const MAX_VSOCK = 2 ** 32 - 2;

interface ServerOptions {
  readonly root: string;
  readonly accept_cid?: number;
  readonly disableSandbox?: boolean;
  readonly seccompPolicyDir?: string;
}

const HELP = `
ADDRESS is vsock:PORT, unix:PATH, or IP:PORT ([IP]:PORT for IPv6). Whoever can connect there can read and change everything below the root
that this user can.`;

/** `vivarium 9s`. */
export function nineServerCommand(): Command {
  return new Command('9s')
    .description('Serve a directory by 9P')
    .argument('<ADDRESS>', 'where clients connect', parseListener)
    .addOption(new Option('-r, --root <PATH>', 'the directory').makeOptionMandatory().argParser(once(directory)))
    .addOption(
      new Option('--accept_cid <CID>', 'the machine that may connect by vsock').argParser(
        once(integer(0, MAX_VSOCK, 'a number')),
      ),
    )
    .addOption(new Option('--disable-sandbox', 'serve in a thread of this process, without a jail'))
    .addOption(
      new Option('--seccomp-policy-dir <PATH>', 'folder of the policies for system calls').argParser(once(asIs)),
    )
    .addHelpText('after', HELP)
    .action(async (address: Address, options: ServerOptions) => {
      const { root, disableSandbox, seccompPolicyDir } = options;
      const config = {
        ...{ root, name: address.text, listener: withCid(address, options.accept_cid) },
        sandbox: disableSandbox ? undefined : { policyFolder: seccompPolicyDir },
      };
      await serve9P(config, () => process.stdout.write(`${root} is served at ${address.text}\n`));
    });
}

type Address = { readonly text: string } & (Exclude<Listener, { family: 'vsock' }> | { family: 'vsock'; port: number });

function parseListener(text: string): Address {
  const port = (least: number, most: number, of: string): number => integer(least, most, 'a port')(of);
  if (text.startsWith('unix:')) return { text, family: 'unix', path: text.slice('unix:'.length) };
  if (text.startsWith('vsock:'))
    return { text, family: 'vsock', port: port(0, MAX_VSOCK, text.slice('vsock:'.length)) };
  const [, ipv6, ipv4, number = ''] = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(text) ?? [];
  const address = parseAddress(ipv6 ?? ipv4 ?? '');
  if (address === undefined || (address.length === 16) !== (ipv6 !== undefined)) {
    throw new InvalidArgumentError('it takes vsock:PORT, unix:PATH, IP:PORT or [IPv6]:PORT');
  }
  return { text, family: 'tcp', at: { address, port: port(1, 65535, number) } };
}

function withCid(address: Address, acceptCid: number | undefined): Listener {
  if (address.family === 'vsock') {
    if (acceptCid === undefined) throw new Error(`${address.text}: say which machine may connect: give --accept_cid`);
    return { ...address, acceptCid };
  }
  if (acceptCid !== undefined) throw new Error(`--accept_cid ${acceptCid}: it is for vsock:PORT alone`);
  return address;
}
