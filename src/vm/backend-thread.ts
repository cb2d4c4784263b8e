import { Worker } from 'node:worker_threads';
import { threadFile } from '../host/bundle.ts';
import type { BackendStart } from '../virtio/backend-start.ts';
import type { RunningBackend } from './virtio-devices.ts';

/** Linux shows 15 characters of a thread's name. */
const PREFIX = 'vivarium_';

/** Starts a back end in a thread of this process. */
export function startThread(start: BackendStart): RunningBackend {
  const worker = new Worker(threadFile(new URL('../virtio/device-thread.ts', import.meta.url)), {
    name: `${PREFIX}${start.device}`,
    workerData: start,
  });
  let failure: string | undefined;
  worker.once('error', (error) => {
    failure = error instanceof Error ? error.message : String(error);
  });
  return {
    ended: new Promise((resolve) => worker.once('exit', () => resolve(failure))),
    kill: () => void worker.terminate(),
  };
}
