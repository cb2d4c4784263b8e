import { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO } from '../../host/tap.ts';
import { hasFeature } from '../constants.ts';
import * as N from './constants.ts';

/** What a tap may leave to a driver with these features: TUN_F_*. */
export function tapOffloads(features: bigint): number {
  const has = (bit: bigint): boolean => hasFeature(features, bit);
  if (!has(N.VIRTIO_NET_F_GUEST_CSUM)) return 0;
  return (
    TUN_F_CSUM |
    (has(N.VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
    (has(N.VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0) |
    (has(N.VIRTIO_NET_F_GUEST_UFO) ? TUN_F_UFO : 0)
  );
}
