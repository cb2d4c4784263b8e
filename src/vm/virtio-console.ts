/** A machine's virtio console: standard input and output as hvc0, and named ports that are Unix sockets on the host. */
import { Server, Socket } from 'node:net';
import { duplicateDescriptor } from '../host/descriptor.ts';
import { socketPair } from '../host/stream-socket.ts';
import type { DeviceModel } from '../virtio/backend.ts';
import type { ConsoleRequest } from '../virtio/console/backend.ts';
import { consoleModel, type PortConfig } from '../virtio/console/model.ts';
import { ConfigError, type NamedPort } from './config.ts';
import type { ConsoleSink } from './console-input.ts';

export interface VirtioConsoleConfig {
  /** Descriptor of the console's output; undefined: there is no console, only ports. */
  readonly output: number | undefined;
  readonly ports: readonly NamedPort[];
}

export class VirtioConsole implements ConsoleSink {
  readonly model: DeviceModel;
  readonly #ports: readonly NamedPort[];
  /** Number of the first named port. */
  readonly #first: number;
  readonly #input: Socket | undefined;
  /** The main process's ends of the named ports, and who listens for them. */
  readonly #bridges: readonly Socket[];
  #servers: Server[] = [];

  /** Throws OsError. */
  constructor({ output, ports }: VirtioConsoleConfig) {
    const configs: PortConfig[] = [];
    if (output !== undefined) {
      const [mine, its] = socketPair({ nonBlocking: true });
      this.#input = socketOn(mine);
      configs.push({ name: 'console', console: true, input: its, output: duplicateDescriptor(output) });
    }
    this.#first = configs.length;
    this.#ports = ports;
    this.#bridges = ports.map(({ name }) => {
      const [mine, its] = socketPair({ nonBlocking: true });
      configs.push({ name, console: false, input: its, output: its });
      return socketOn(mine);
    });
    this.model = consoleModel(configs);
  }

  /** Opens the sockets of the named ports. `request` asks the back end. Rejects with ConfigError. */
  async listen(request: (message: ConsoleRequest) => Promise<unknown>): Promise<void> {
    for (const [index, { path }] of this.#ports.entries()) {
      const bridge = this.#bridges[index] as Socket;
      const tell = (open: boolean): void => {
        // A back end that ends meanwhile ends the machine.
        request({ kind: 'open', port: this.#first + index, open }).catch(() => {});
      };
      let current: Socket | undefined;
      const leave = (client: Socket): void => {
        if (current !== client) return;
        current = undefined;
        bridge.unpipe(client);
        // What the guest writes to nobody is lost.
        bridge.resume();
        tell(false);
      };
      await this.#listenAt(path, (client) => {
        // The next may be here before the end of the last is told.
        if (current) leave(current);
        current = client;
        tell(true);
        client.pipe(bridge, { end: false });
        bridge.pipe(client);
        client.on('error', () => {});
        client.once('close', () => leave(client));
      });
      bridge.resume();
    }
  }

  async #listenAt(path: string, connected: (client: Socket) => void): Promise<void> {
    const server = new Server(connected);
    // One at a time: the others are turned away.
    server.maxConnections = 1;
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', ({ code, message }: NodeJS.ErrnoException) => {
        const why = code === 'EADDRINUSE' ? 'it is there already: remove it or choose another path' : message;
        reject(new ConfigError(`${path}: the socket of a port cannot be opened: ${why}`));
      });
      server.listen(path, resolve);
    });
  }

  queueInput(bytes: Uint8Array): number {
    this.#input?.write(bytes);
    return bytes.length;
  }

  async waitForInputSpace(): Promise<void> {
    const input = this.#input;
    if (input?.writableNeedDrain === true) await new Promise((resolve) => input.once('drain', resolve));
  }

  /** Takes the sockets away. */
  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of [this.#input, ...this.#bridges]) socket?.destroy();
  }
}

function socketOn(fd: number): Socket {
  const socket = new Socket({ fd, readable: true, writable: true });
  socket.on('error', () => {});
  return socket;
}
