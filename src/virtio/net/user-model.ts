import { openSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { closeDescriptor } from '../../host/descriptor.ts';
import { bindUdp, listenTcp } from '../../host/socket.ts';
import { formatEndPoint, type IpAddress, parseAddress } from '../../net/address.ts';
import type { PublishedPort, UserNetworkConfig } from '../../net/config.ts';
import type { DeviceModel } from '../backend.ts';
import { NetError, type UserNetConfig } from './config.ts';
import { BASE_FEATURES, netModel } from './model.ts';

/** What the user network's back end starts from. */
export interface UserParams {
  readonly config: UserNetworkConfig;
  /** Is the first descriptor the log's? */
  readonly logged: boolean;
}

/** The guest's hardware address. It is alone on its link. */
const GUEST_MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const MTU = 1500;
/** resolv.conf(5) has no more. */
const MAX_NAME_SERVERS = 3;

/** A network device on the user-mode network: opens the log and the published ports. Throws NetError. */
export function userNetModel({ allow, deny, published, log }: UserNetConfig): DeviceModel {
  const config: UserNetworkConfig = {
    mac: GUEST_MAC,
    mtu: MTU,
    allow,
    deny,
    nameServers: nameServers(),
    hostAddresses: Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
    published,
  };
  const fds: number[] = [];
  try {
    if (log !== undefined) fds.push(openLog(log));
    for (const port of published) fds.push(openPort(port));
  } catch (error) {
    for (const fd of fds) closeDescriptor(fd);
    throw error;
  }
  return netModel({
    device: 'net_user',
    label: 'user network',
    mac: Uint8Array.from(GUEST_MAC),
    mtu: MTU,
    pairs: 1,
    features: BASE_FEATURES,
    params: { config, logged: log !== undefined } satisfies UserParams,
    fds,
  });
}

/** The host's resolvers: those of /etc/resolv.conf, or, as resolv.conf(5) says, the one on this host. */
function nameServers(): string[] {
  let text = '';
  try {
    text = readFileSync('/etc/resolv.conf', 'utf8');
  } catch {
    // Without the file there is the default.
  }
  const found = [...text.matchAll(/^nameserver\s+(\S+)/gm)].map((match) => match[1] as string);
  const usable = found.filter((address) => parseAddress(address) !== undefined);
  return usable.length > 0 ? usable.slice(0, MAX_NAME_SERVERS) : ['127.0.0.1'];
}

function openLog(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    throw new NetError(`${path}: the log cannot be written: ${(error as Error).message}: give another with --net-log`);
  }
}

function openPort({ protocol, hostAddress, hostPort }: PublishedPort): number {
  const end = { address: parseAddress(hostAddress) as IpAddress, port: hostPort };
  try {
    return protocol === 'tcp' ? listenTcp(end) : bindUdp(end);
  } catch (error) {
    const where = `${formatEndPoint(end.address, hostPort)}/${protocol}`;
    throw new NetError(
      `${where}: the port cannot be published: ${(error as Error).message}: choose another with --publish`,
    );
  }
}
