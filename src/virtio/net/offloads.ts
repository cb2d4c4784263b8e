import { setOffloads, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO, TUN_F_USO4, TUN_F_USO6 } from '../../host/tap.ts';
import { features, hasFeature } from '../constants.ts';
import * as N from './constants.ts';

/** Every tap's. */
const BASE_OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
const USO = TUN_F_USO4 | TUN_F_USO6;

/** Features that this kernel's taps make possible beyond those of all; undefined: it lacks the common ones. Leaves the tap without offloads. */
export function offloadFeatures(tap: number): bigint | undefined {
  if (!setOffloads(tap, BASE_OFFLOADS)) return undefined;
  const ufo = setOffloads(tap, BASE_OFFLOADS | TUN_F_UFO);
  const uso = setOffloads(tap, BASE_OFFLOADS | USO);
  setOffloads(tap, 0);
  return (
    (ufo ? features(N.VIRTIO_NET_F_GUEST_UFO) : 0n) |
    (uso ? features(N.VIRTIO_NET_F_GUEST_USO4, N.VIRTIO_NET_F_GUEST_USO6, N.VIRTIO_NET_F_HOST_USO) : 0n)
  );
}

/** What a tap may leave to a driver with these features: TUN_F_*. */
export function tapOffloads(negotiated: bigint): number {
  const has = (bit: bigint): boolean => hasFeature(negotiated, bit);
  if (!has(N.VIRTIO_NET_F_GUEST_CSUM)) return 0;
  return (
    TUN_F_CSUM |
    (has(N.VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
    (has(N.VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0) |
    (has(N.VIRTIO_NET_F_GUEST_UFO) ? TUN_F_UFO : 0) |
    (has(N.VIRTIO_NET_F_GUEST_USO4) && has(N.VIRTIO_NET_F_GUEST_USO6) ? USO : 0)
  );
}
