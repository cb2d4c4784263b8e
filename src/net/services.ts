/** What the protocols of the network share. */
import type { EventLoop } from '../host/event-loop.ts';
import { formatAddress, formatEndPoint, type IpAddress, sameBytes } from './address.ts';
import type { ConnectionLog } from './connection-log.ts';
import type { KnownNames } from './dns/known-names.ts';
import { behindGateway, isOutside } from './guest-network.ts';
import type { FrameWriter } from './ip/writer.ts';
import type { Policy } from './policy.ts';

export interface Services {
  readonly loop: EventLoop;
  readonly writer: FrameWriter;
  readonly policy: Policy;
  readonly names: KnownNames;
  readonly log: ConnectionLog;
  /** ms of a monotonic clock. */
  readonly now: number;
}

/** A peer that the guest may reach. */
export interface Target {
  /** Where the host is to connect to. */
  readonly address: IpAddress;
  /** Names that the guest knows it by. */
  readonly names: readonly string[];
}

/**
 * Asks the policy about a peer as the guest names it. Undefined: it may not be reached, which has been logged. Port 0 stands for
 * ICMP.
 */
export function admit(
  services: Services,
  protocol: string,
  guest: string,
  remote: IpAddress,
  port: number,
): Target | undefined {
  const address = behindGateway(remote);
  const names = services.names.of(address, services.now);
  const verdict = services.policy.decide(address, port, names);
  const routable = isOutside(remote) || !sameBytes(address, remote);
  if (verdict.allowed && routable) return { address, names };
  services.log.add({
    event: 'deny',
    protocol,
    guest,
    remote: port === 0 ? formatAddress(address) : formatEndPoint(address, port),
    ...(names.length > 0 ? { names } : {}),
    rule: routable ? (verdict.rule ?? 'not allowed by any rule') : 'not routed',
  });
  return undefined;
}
