// The options of `run` that give the guest sockets to the host.

import { type Command, Option } from 'commander';
import { CID_GUEST_MAX, CID_GUEST_MIN } from '../virtio/vsock/constants.ts';
import type { VsockConfig } from '../vm/config.ts';
import { asIs, integer, once } from './options.ts';

export interface VsockOptions {
  readonly vsock?: string;
  readonly cid?: number;
}

export function addVsockOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--vsock <PATH>',
        'sockets between guest and host (vsock): ports of the guest by this Unix socket, port N of the host is PATH_N',
      ).argParser(once(asIs)),
    )
    .addOption(
      new Option(
        '--cid <N>',
        `number of the guest among vsock's (default: ${CID_GUEST_MIN}); without --vsock, the sockets are the kernel's (vhost-vsock, KVM)`,
      ).argParser(once(integer(CID_GUEST_MIN, CID_GUEST_MAX, 'a number'))),
    );
}

/** The sockets that the options ask for. */
export function vsockOf({ vsock, cid }: VsockOptions): VsockConfig | undefined {
  if (vsock !== undefined) return { kind: 'user', path: vsock, cid: cid ?? CID_GUEST_MIN };
  return cid === undefined ? undefined : { kind: 'vhost', cid };
}
