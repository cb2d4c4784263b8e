// A back end in a process of its own: the first file of build/device-process.cjs.

import { runInJail } from '../jail/inside.ts';
import type { BackendStart } from '../virtio/backend-start.ts';
import { loadBackend } from '../virtio/backends.ts';
import { prepareBackend } from '../virtio/device-main.ts';

void runInJail(async ({ data, fds }) => {
  const start = { ...(data as Omit<BackendStart, 'fds'>), fds };
  return prepareBackend(start, await loadBackend(start.device));
});
