import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_CONSOLE } from '../constants.ts';
import * as C from './constants.ts';

/** A port, and what it is joined to on the host. */
export interface PortConfig {
  /** The guest's name for it (/dev/virtio-ports/NAME). */
  readonly name: string;
  /** Is it a console (hvc)? */
  readonly console: boolean;
  /** Bytes to the guest, and from it: descriptors, non-blocking where they can block; the same one for both is a socket. */
  readonly input: number | undefined;
  readonly output: number | undefined;
}

/** What the back end starts from; descriptors by their index. */
export interface ConsoleParams {
  readonly ports: readonly PortConfig[];
}

/** A console device with these ports. It takes the descriptors. */
export function consoleModel(ports: readonly PortConfig[]): DeviceModel {
  if (ports.length < 1 || ports.length > C.MAX_PORTS) throw new RangeError(`a console has 1 to ${C.MAX_PORTS} ports`);
  const fds: number[] = [];
  const index = (fd: number | undefined): number | undefined => {
    if (fd === undefined) return undefined;
    if (!fds.includes(fd)) fds.push(fd);
    return fds.indexOf(fd);
  };
  const params: ConsoleParams = {
    ports: ports.map((port) => ({
      ...port,
      input: index(port.input),
      output: index(port.output),
    })),
  };
  const config = new DataView(new ArrayBuffer(C.CONFIG_SIZE));
  config.setUint32(C.CONFIG_MAX_NR_PORTS, ports.length, true);
  return {
    device: 'console',
    label: 'console',
    type: ID_CONSOLE,
    queueSizes: Array.from({ length: C.portQueue(ports.length) }, () => C.QUEUE_SIZE),
    features: COMMON_FEATURES | features(C.VIRTIO_CONSOLE_F_SIZE, C.VIRTIO_CONSOLE_F_MULTIPORT),
    config: new Uint8Array(config.buffer),
    params: params as unknown as DeviceModel['params'],
    fds,
  };
}
