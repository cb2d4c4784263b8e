/** The GDB stub's socket: TCP on the loopback interface, one GDB at a time. */

import { createServer, type Server, type Socket } from 'node:net';
import { GdbSession } from './session.ts';
import type { DebugTarget } from './target.ts';

const HOST = '127.0.0.1';

export class GdbServer {
  readonly #server: Server;
  #socket: Socket | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens on `port` of the loopback interface, 0: any free one. Rejects when it is taken. Whoever connects stops the machine,
   * and lets it run on by going.
   */
  static async listen(port: number, target: DebugTarget): Promise<GdbServer> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, HOST, resolve);
    });
    const stub = new GdbServer(server);
    server.on('connection', (socket) => stub.#connected(socket, target));
    // The machine keeps the process alive, not its debugger.
    server.unref();
    return stub;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Stops listening. A reply under way, such as the machine's end, is still sent. */
  close(): void {
    this.#server.close();
    this.#socket?.end();
  }

  #connected(socket: Socket, target: DebugTarget): void {
    if (this.#socket !== undefined) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    const session = new GdbSession(target, {
      send: (bytes) => {
        if (socket.writable) socket.write(bytes);
      },
      close: () => socket.end(),
    });
    socket.on('data', (bytes: Buffer) => session.receive(bytes));
    // GDB gone without a word is as good as a detach; 'close' follows.
    socket.on('error', () => {});
    socket.once('close', async () => {
      await session.disconnected();
      this.#socket = undefined;
    });
  }
}
