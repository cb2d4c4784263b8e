import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_VSOCK } from '../constants.ts';
import * as C from './constants.ts';

/** What the back end starts from. */
export interface VsockParams {
  readonly cid: number;
  /** Connections at the same time, at most. */
  readonly connections: number;
}

/** The host's side of a socket device; descriptors. */
export interface VsockHost {
  /** A Unix socket that listens, non-blocking: who connects to it asks for a port of the guest. */
  readonly listener: number;
  /** Where connections to the host come from: one end of a messageSocketPair(). */
  readonly connections: number;
}

/** The configuration: the guest's context identifier. */
export function vsockConfig(cid: number): Uint8Array {
  const config = new DataView(new ArrayBuffer(C.CONFIG_SIZE));
  config.setBigUint64(0, BigInt(cid), true);
  return new Uint8Array(config.buffer);
}

/** A socket device (virtio 1.2, 5.10). It takes the descriptors. */
export function vsockModel(params: VsockParams, { listener, connections }: VsockHost): DeviceModel {
  return {
    device: 'vsock',
    label: `sockets of guest ${params.cid}`,
    type: ID_VSOCK,
    queueSizes: C.QUEUE_SIZES,
    features: COMMON_FEATURES | features(C.VIRTIO_VSOCK_F_STREAM),
    config: vsockConfig(params.cid),
    params: { ...params },
    fds: [listener, connections],
  };
}
