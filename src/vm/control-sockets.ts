import { CrosvmServer } from '../control/crosvm-server.ts';
import { lowMemorySource } from '../control/low-memory/source.ts';
import { watchLowMemory } from '../control/low-memory/watch.ts';
import type { ControlledMachine } from '../control/machine.ts';
import type { ControlServer } from '../control/server.ts';
import { socketPath } from '../control/socket-file.ts';
import { Poller } from '../host/poller.ts';

/** Behind the control socket's path: the path of the socket for crosvm's own clients. */
const CROSVM_SUFFIX = '.crosvm';

/** A machine's control sockets: they are made before the machine is, so that nothing has begun when they cannot be. */
export class ControlSockets {
  readonly #http: ControlServer;
  readonly #crosvm: CrosvmServer;

  private constructor(http: ControlServer, crosvm: CrosvmServer) {
    this.#http = http;
    this.#crosvm = crosvm;
  }

  /** `path`: as the user gave it. Throws ControlError, OsError. */
  static async open(path: string, log: (line: string) => void): Promise<ControlSockets> {
    // The server is loaded where it is wanted: HTTP takes as long as the rest of the command line.
    const { ControlServer } = await import('../control/server.ts');
    const http = new ControlServer(socketPath(path));
    try {
      return new ControlSockets(http, new CrosvmServer(`${http.path}${CROSVM_SUFFIX}`, log));
    } catch (error) {
      http.close();
      throw error;
    }
  }

  get path(): string {
    return this.#http.path;
  }

  serve(machine: ControlledMachine, poller: Poller): void {
    this.#http.serve(machine);
    this.#crosvm.serve(machine, poller);
  }

  close(): void {
    this.#http.close();
    this.#crosvm.close();
  }
}

/**
 * Steers a machine from outside, from now on: requests at its control sockets, and the host that is low on memory. Returns what
 * ends that; the sockets stay the caller's.
 */
export function steerFromOutside(
  machine: ControlledMachine,
  sockets: ControlSockets | undefined,
  log: (line: string) => void,
): () => Promise<void> {
  const { balloon } = machine;
  const source = balloon && lowMemorySource();
  // The thread that waits for descriptors is not made for nothing.
  if (sockets === undefined && source === undefined) return async () => {};
  const poller = Poller.shared();
  sockets?.serve(machine, poller);
  const unwatch =
    balloon && source && watchLowMemory({ ram: machine.description.memory, balloon, source, poller }, log);
  return async () => {
    unwatch?.();
    await poller.close();
  };
}
