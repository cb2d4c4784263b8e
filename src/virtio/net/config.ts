/** Networks as the user asks for them. */
import type { PublishedPort } from '../../net/config.ts';

export interface UserNetConfig {
  readonly kind: 'user';
  /** Rules of the egress policy, each checked. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly published: readonly PublishedPort[];
  /** Path of the file that connections are logged to. */
  readonly log?: string | undefined;
}

/** The name of the tap that is made where only its address is given. */
export const DEFAULT_TAP = 'vmtap%d';

export interface TapNetConfig {
  readonly kind: 'tap';
  /** A tap that is open already, or the name of one; it is made if it is not there, `%d` in it stands for a number. */
  readonly tap: { readonly fd: number } | { readonly name: string };
  /** Does the host's kernel move the frames (vhost-net)? */
  readonly vhost?: boolean | undefined;
  /** What the host's end is given, IPv4 and Ethernet. */
  readonly address?: Uint8Array | undefined;
  readonly netmask?: Uint8Array | undefined;
  readonly mac?: Uint8Array | undefined;
}

export type NetConfig = UserNetConfig | TapNetConfig;

/** A network that cannot be. The message is one line for the user. */
export class NetError extends Error {
  override readonly name = 'NetError';
}
