/** What the back ends of shared directories have in common: a queue's requests go to a session, its answers back. */
import type { FileSession } from '../fs/exchange.ts';
import { FileServer } from '../fs/server.ts';
import type { SharedDirectory } from '../fs/shared-directory.ts';
import { openStart } from '../host/files.ts';
import type { Backend, Json } from './backend.ts';
import type { Queue } from './queue.ts';

/** A server by DeviceModel.params: a SharedDirectory. Throws OsError. */
export function openServer(params: Json): FileServer {
  const directory = params as unknown as SharedDirectory;
  return new FileServer(openStart(directory.path), directory);
}

export function fileBackend(session: FileSession): Backend {
  return {
    start: ({ queues }) => {
      for (const queue of queues) if (queue !== undefined) queue.onNotify = () => serve(queue, session);
    },
    reset: () => session.reset(),
  };
}

function serve(queue: Queue, session: FileSession): void {
  let batch = true;
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
    const request = chain;
    session.serve(request, (written) => {
      queue.push(request, written);
      // It waited for a lock.
      if (!batch) queue.flush();
    });
  }
  batch = false;
  queue.flush();
}
