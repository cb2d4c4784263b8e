import { randomBytes } from 'node:crypto';
import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_NET } from '../constants.ts';
import * as N from './constants.ts';

/** A hardware address of our own making: locally administered, of one machine. */
export function randomMac(): Uint8Array {
  const mac = Uint8Array.from(randomBytes(6));
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}

/** What both back ends can do. */
export const BASE_FEATURES = features(
  N.VIRTIO_NET_F_CSUM,
  N.VIRTIO_NET_F_GUEST_CSUM,
  N.VIRTIO_NET_F_MTU,
  N.VIRTIO_NET_F_MAC,
  N.VIRTIO_NET_F_GUEST_TSO4,
  N.VIRTIO_NET_F_GUEST_TSO6,
  N.VIRTIO_NET_F_HOST_TSO4,
  N.VIRTIO_NET_F_HOST_TSO6,
  N.VIRTIO_NET_F_HOST_UFO,
  N.VIRTIO_NET_F_MRG_RXBUF,
  N.VIRTIO_NET_F_STATUS,
  N.VIRTIO_NET_F_CTRL_VQ,
  N.VIRTIO_NET_F_CTRL_RX,
  N.VIRTIO_NET_F_CTRL_MAC_ADDR,
);

/** A network device, whatever moves its frames. */
export interface NetDevice {
  readonly device: string;
  readonly label: string;
  /** The guest's hardware address. */
  readonly mac: Uint8Array;
  /** Largest IP packet, bytes. */
  readonly mtu: number;
  /** Pairs of queues. */
  readonly pairs: number;
  /** Of the device, without the common ones. */
  readonly features: bigint;
  readonly params: object;
  readonly fds: readonly number[];
}

export function netModel({ device, label, mac, mtu, pairs, features: own, params, fds }: NetDevice): DeviceModel {
  return {
    device,
    label,
    type: ID_NET,
    queueSizes: [...Array.from({ length: 2 * pairs }, () => N.QUEUE_SIZE), N.CONTROL_QUEUE_SIZE],
    features: COMMON_FEATURES | own,
    config: configOf(mac, mtu, pairs),
    params: params as DeviceModel['params'],
    fds,
  };
}

function configOf(mac: Uint8Array, mtu: number, pairs: number): Uint8Array {
  const config = new DataView(new ArrayBuffer(N.CONFIG_SIZE));
  new Uint8Array(config.buffer).set(mac, N.CONFIG_MAC);
  config.setUint16(N.CONFIG_STATUS, N.VIRTIO_NET_S_LINK_UP, true);
  config.setUint16(N.CONFIG_MAX_VIRTQUEUE_PAIRS, pairs, true);
  config.setUint16(N.CONFIG_MTU, mtu, true);
  return new Uint8Array(config.buffer);
}
