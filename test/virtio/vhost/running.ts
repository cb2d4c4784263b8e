/** A device with its back end in this thread, or in its jail. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Poller } from '../../../src/host/poller.ts';
import type { BackendFactory, DeviceModel } from '../../../src/virtio/backend.ts';
import { startProcess } from '../../../src/vm/backend-process.ts';
import { TestDevice, type TestDeviceOptions } from '../test-device.ts';

/** Much, since a whole machine may be emulated, ms. */
const LIMIT = 60_000;

export async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = Date.now() + LIMIT; !done(); await sleep(5)) assert.ok(Date.now() < end, what);
}

export interface Running {
  readonly device: TestDevice;
  /** A reset by the driver, done. */
  reset(): Promise<void>;
  /** Ends it; it has to go in order. */
  end(): Promise<void>;
}

/** Starts a device. `place`: where its back end is. */
export async function startDevice(
  model: DeviceModel,
  create: BackendFactory,
  place: 'thread' | 'jail',
  options: TestDeviceOptions = {},
): Promise<Running> {
  const jailed = place === 'jail';
  const device = new TestDevice(model, jailed ? undefined : create, options);
  const poller = jailed ? new Poller() : undefined;
  const running = poller && startProcess(device.start, {}, poller);
  let ended: string | undefined;
  void running?.ended.then((cause) => {
    ended = cause ?? 'it ended';
  });
  const reset = async (): Promise<void> => {
    device.reset();
    await until(`no reset: ${ended}`, () => !device.transport.resetPending);
  };
  const end = async (): Promise<void> => {
    device.end();
    const cause = await running?.ended;
    await poller?.close();
    device.close();
    assert.equal(cause, undefined);
  };
  await until('it is not ready', () => device.hasMessage || ended !== undefined);
  assert.equal(ended, undefined);
  assert.deepEqual(device.messages(), [{ ready: true }]);
  return { device, reset, end };
}
