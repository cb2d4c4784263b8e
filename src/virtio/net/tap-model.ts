import { closeDescriptor } from '../../host/descriptor.ts';
import { OsError } from '../../host/errno.ts';
import {
  configureInterface,
  IFF_MULTI_QUEUE,
  IFF_TAP,
  IFF_VNET_HDR,
  interfaceMtu,
  openTap,
  setHeaderSize,
  tapOf,
} from '../../host/tap.ts';
import { VNET_HEADER_SIZE } from '../../net/vnet-header.ts';
import type { DeviceModel } from '../backend.ts';
import { features } from '../constants.ts';
import { NetError, type TapNetConfig } from './config.ts';
import * as N from './constants.ts';
import { BASE_FEATURES, netModel, randomMac } from './model.ts';
import { offloadFeatures } from './offloads.ts';
import { withVhost } from './vhost-model.ts';

/** What the tap's back end starts from. Its descriptors are the tap's queues. */
export interface TapParams {
  readonly mac: readonly number[];
}

const TAP_FEATURES = features(N.VIRTIO_NET_F_GUEST_ECN, N.VIRTIO_NET_F_HOST_ECN);

/** A network device on a tap. `pairs`: of queues; a tap that was opened by others has one. Throws NetError. */
export function tapNetModel(config: TapNetConfig, pairs: number): DeviceModel {
  const { fds, name } = 'fd' in config.tap ? inherited(config.tap.fd) : opened(config.tap.name, pairs);
  try {
    const { address, netmask, mac } = config;
    for (const fd of fds) setHeaderSize(fd, VNET_HEADER_SIZE);
    // Without an address it is somebody else's tap, who has set it up.
    if (address !== undefined || netmask !== undefined || mac !== undefined) {
      configureInterface(name, {
        ...(address === undefined ? {} : { address }),
        ...(netmask === undefined ? {} : { netmask }),
        ...(mac === undefined ? {} : { mac }),
      });
    }
    const first = fds[0] as number;
    const offloads = offloadFeatures(first);
    if (offloads === undefined) throw new NetError(`${name}: the tap has no offloads: a newer kernel is needed`);
    const guestMac = randomMac();
    const model = netModel({
      device: 'net',
      label: `tap ${name}`,
      mac: guestMac,
      mtu: interfaceMtu(name),
      pairs: fds.length,
      features: BASE_FEATURES | TAP_FEATURES | offloads | (fds.length > 1 ? features(N.VIRTIO_NET_F_MQ) : 0n),
      params: { mac: [...guestMac] } satisfies TapParams,
      fds,
    });
    return config.vhost === true ? withVhost(model) : model;
  } catch (error) {
    for (const fd of fds) closeDescriptor(fd);
    throw named(name, error);
  }
}

function opened(pattern: string, pairs: number): { readonly fds: number[]; readonly name: string } {
  const fds: number[] = [];
  let name = pattern;
  try {
    for (let i = 0; i < pairs; i++) {
      const tap = openTap(name, pairs > 1);
      fds.push(tap.fd);
      name = tap.name;
    }
    return { fds, name };
  } catch (error) {
    for (const fd of fds) closeDescriptor(fd);
    throw named(name, error);
  }
}

function inherited(fd: number): { readonly fds: number[]; readonly name: string } {
  try {
    const { name, flags } = tapOf(fd);
    if ((flags & IFF_TAP) === 0)
      throw new NetError(`descriptor ${fd} is a tun, no tap: give one that carries Ethernet frames`);
    if ((flags & IFF_VNET_HDR) === 0 || (flags & IFF_MULTI_QUEUE) !== 0) {
      throw new NetError(
        `descriptor ${fd}: the tap ${name} must be opened with IFF_VNET_HDR and without IFF_MULTI_QUEUE`,
      );
    }
    return { fds: [fd], name };
  } catch (error) {
    if (error instanceof OsError) throw new NetError(`descriptor ${fd} is no tap: give one with --tap-fd`);
    throw error;
  }
}

function named(name: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof NetError || !('code' in error)) return error;
  const mend: Record<string, string> = {
    ENOENT: 'load the module tun',
    EACCES: 'run as root, or give a tap that this user owns with --tap',
    EPERM: 'run as root, or give a tap that this user owns with --tap',
    EBUSY: 'another program uses it: choose another with --tap',
    EINVAL: 'there is an interface of this name that is no such tap: choose another with --tap',
  };
  return new NetError(
    `${name}: the tap cannot be used: ${error.message}: ${mend[String(error.code)] ?? 'choose another with --tap'}`,
  );
}
