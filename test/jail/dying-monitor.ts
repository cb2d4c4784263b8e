// A monitor that starts the device of device.ts and is killed, by itself or by who started it. Descriptor 3 is the device's channel.
import { Poller } from '../../src/host/poller.ts';
import { type DeviceProcessOptions, startDeviceProcess } from '../../src/jail/device-process.ts';
import { allIds } from '../../src/jail/id-maps.ts';

export interface DyingMonitor {
  /** Path of the device's code. */
  readonly bundle: string;
  readonly options?: Partial<DeviceProcessOptions>;
  /** Milliseconds from the call that starts the device until it kills itself; 0: when that has returned. It is not: it lives on. */
  readonly killedAfter?: number;
  /** The device acts for all users. `dies`: the monitor kills itself when it is about to tell who they are. */
  readonly users?: 'given' | 'dies';
}

const die = (): void => void process.kill(process.pid, 'SIGKILL');

const { bundle, options, killedAfter, users } = JSON.parse(process.argv[2] as string) as DyingMonitor;
const ids = users === undefined ? undefined : allIds();
void startDeviceProcess(
  {
    policy: 'common_device',
    bundle,
    data: {},
    fds: [3],
    network: 'none',
    ...options,
    users: ids && {
      gids: ids.gids,
      get uids() {
        if (users === 'dies') die();
        return ids.uids;
      },
    },
  },
  new Poller(),
);
if (killedAfter === 0) die();
else if (killedAfter !== undefined) setTimeout(die, killedAfter);
