/** Starts the 9P server that stands alone, and waits for its end. */
import { Worker } from 'node:worker_threads';
import { makeSocketFile, requireFree } from '../control/socket-file.ts';
import { threadFile } from '../host/bundle.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { OsError } from '../host/errno.ts';
import { EventFd } from '../host/eventfd.ts';
import { Poller } from '../host/poller.ts';
import { EndedBySignal, onEndingSignal } from '../host/signals.ts';
import { listenTcp, type SocketAddress } from '../host/socket.ts';
import { listenAt } from '../host/stream-socket.ts';
import { listenVsock } from '../host/vsock-socket.ts';
import { startDeviceProcess } from '../jail/device-process.ts';
import { builtBundle, endOf, viewOf } from '../vm/backend-process.ts';
import type { SandboxConfig } from '../vm/config.ts';
import type { ServerThread } from './9s-process.ts';
import type { Service } from './clients.ts';

export type Listener =
  | { readonly family: 'unix'; readonly path: string }
  | { readonly family: 'tcp'; readonly at: SocketAddress }
  | { readonly family: 'vsock'; readonly port: number; readonly acceptCid: number };

export interface ServerConfig {
  /** Absolute path of the directory. */
  readonly root: string;
  readonly listener: Listener;
  /** As the user wrote it. */
  readonly name: string;
  /** Undefined: it serves in a thread of this process. */
  readonly sandbox: SandboxConfig | undefined;
}

interface RunningServer {
  /** Why it has ended. */
  readonly ended: Promise<string | undefined>;
  stop(): void;
}

/** Serves until a signal asks for the end, which rejects with EndedBySignal. `ready` is called when clients can connect. */
export async function serve9P(config: ServerConfig, ready: () => void): Promise<never> {
  const { listener, root } = config;
  const fd = listen(config);
  const service: Service = {
    directory: { path: root, readOnly: false, uid: null, gid: null },
    family: listener.family,
    acceptCid: listener.family === 'vsock' ? listener.acceptCid : null,
  };
  const signal = Promise.withResolvers<never>();
  signal.promise.catch(() => {});
  const ignore = onEndingSignal((name) => signal.reject(new EndedBySignal(name)));
  const poller = new Poller();
  let server: RunningServer | undefined;
  try {
    server =
      config.sandbox === undefined ? startThread(service, fd) : await startJailed(service, fd, config.sandbox, poller);
    ready();
    const cause = await Promise.race([server.ended, signal.promise]);
    throw new Error(`the server has ended: ${cause ?? 'nobody knows why'}`);
  } finally {
    ignore();
    server?.stop();
    await server?.ended;
    closeDescriptor(fd);
    await poller.close();
  }
}

/** The socket that waits for clients. Throws an error of one line. */
function listen({ listener, name }: ServerConfig): number {
  try {
    if (listener.family === 'tcp') return listenTcp(listener.at);
    if (listener.family === 'vsock') return listenVsock(listener.port);
    requireFree(listener.path, 'unix:PATH');
    let fd = -1;
    makeSocketFile(listener.path, () => {
      fd = listenAt(listener.path);
    });
    return fd;
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    throw new Error(`${name}: nobody can connect there: ${error.message}`);
  }
}

async function startJailed(
  service: Service,
  listener: number,
  sandbox: SandboxConfig,
  poller: Poller,
): Promise<RunningServer> {
  const { directory, view } = viewOf(service.directory);
  const data: Service = { ...service, directory };
  const started = startDeviceProcess(
    { policy: '9s', ...sandbox, ...view, bundle: builtBundle('9s-process'), data, fds: [listener] },
    poller,
  );
  const server = await started;
  return { ended: endOf(started), stop: () => server.kill() };
}

function startThread(service: Service, listener: number): RunningServer {
  const stop = new EventFd();
  const workerData: ServerThread = { service, listener, stop: stop.fd };
  const worker = new Worker(threadFile(new URL('./9s-process.ts', import.meta.url)), {
    name: 'vivarium_9s',
    workerData,
  });
  let failure: string | undefined;
  worker.once('error', (error: Error) => {
    failure = error.message;
  });
  return {
    ended: new Promise((resolve) => worker.once('exit', () => resolve(failure))),
    stop: () => stop.signal(),
  };
}
