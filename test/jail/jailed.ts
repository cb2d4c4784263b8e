// Starting the device of device.ts in a jail, for tests.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bundle } from '../../scripts/bundle.ts';
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { Poller } from '../../src/host/poller.ts';
import { messageSocketPair } from '../../src/host/unix-socket.ts';
import { receiveJson, sendJson } from '../../src/jail/channel.ts';
import { type DeviceProcess, type DeviceProcessOptions, startDeviceProcess } from '../../src/jail/device-process.ts';
import type { Request } from './device.ts';

/** A device that does what it is asked for. */
export interface JailedDevice {
  readonly process: DeviceProcess;
  send(request: Request): void;
  /** Resolves with its answer; null: it has ended. */
  ask(request: Request): Promise<unknown>;
}

/** Makes the device's code before the tests of a file. Returns what starts it; what a test starts ends with the test. */
export function jailedDevices(): (t: TestContext, options?: Partial<DeviceProcessOptions>) => Promise<JailedDevice> {
  let folder: string;
  let poller: Poller;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vivarium-jail-'));
    await bundle({ device: fileURLToPath(new URL('device.ts', import.meta.url)) }, folder);
    poller = new Poller();
  });
  after(async () => {
    await poller.close();
    rmSync(folder, { recursive: true });
  });
  return async (t, options = {}) => {
    const [mine, its] = messageSocketPair();
    t.after(() => closeDescriptor(mine));
    try {
      const process = await startDeviceProcess(
        {
          policy: 'common_device',
          bundle: join(folder, 'device.cjs'),
          data: {},
          network: 'none',
          ...options,
          fds: [its, ...(options.fds ?? [])],
        },
        poller,
      );
      t.after(async () => {
        process.kill();
        await process.ended;
      });
      return {
        process,
        send: (request) => sendJson(mine, request),
        ask: async (request) => {
          sendJson(mine, request);
          // Not by a call that blocks: the monitor must be there for a device that is stopped by its policy.
          for (;;) {
            const message = receiveJson(mine, { wait: false });
            if (message !== undefined) return message?.value ?? null;
            await setTimeout(1);
          }
        },
      };
    } finally {
      closeDescriptor(its);
    }
  };
}
