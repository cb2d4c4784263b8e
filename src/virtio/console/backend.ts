import type { Backend, BackendHost, Json, Session } from '../backend.ts';
import { BrokenDriverError } from '../chain.ts';
import { hasFeature } from '../constants.ts';
import type { Queue } from '../queue.ts';
import * as C from './constants.ts';
import type { ConsoleParams } from './model.ts';
import { Port } from './port.ts';

/** A request of the main process. */
export type ConsoleRequest =
  /** The console's terminal has another size, characters. Answers null. */
  | { readonly kind: 'size'; readonly columns: number; readonly rows: number }
  /** Somebody on the host has opened the port of this number, or gone. Answers null. */
  | { readonly kind: 'open'; readonly port: number; readonly open: boolean };

/** What the back end tells without being asked. */
export type ConsoleEvent = {
  /** Nothing of a port's output can be written any more. */
  readonly kind: 'output-failed';
  readonly port: string;
  readonly errno: number;
};

/** Control messages that wait for a driver with no buffers; it cannot make the device send more by asking for them. */
const MAX_WAITING = 256;

export function create(host: BackendHost): Backend {
  return new ConsoleBackend(host);
}

class ConsoleBackend implements Backend {
  readonly #host: BackendHost;
  readonly #configs: ConsoleParams['ports'];
  readonly #ports: readonly Port[];
  #control: Queue | undefined;
  #waiting: Uint8Array[] = [];
  /** Ports that the driver knows. */
  readonly #known = new Set<number>();
  /** Ports that are open on the host. */
  readonly #open = new Set<number>();

  constructor(host: BackendHost) {
    const { ports } = host.params as unknown as ConsoleParams;
    const fd = (index: number | undefined): number | undefined => (index === undefined ? undefined : host.fds[index]);
    this.#host = host;
    this.#configs = ports;
    this.#ports = ports.map(({ name, input, output }) => {
      const failed = (errno: number): void => host.event({ kind: 'output-failed', port: name, errno });
      return new Port(host.loop, { input: fd(input), output: fd(output) }, failed);
    });
    // A console's terminal is there from the start.
    for (const [port, { console }] of ports.entries()) if (console) this.#open.add(port);
  }

  start({ features, queues }: Session): void {
    const multiport = hasFeature(features, C.VIRTIO_CONSOLE_F_MULTIPORT);
    if (multiport) {
      this.#control = queues[C.CONTROL_RECEIVE];
      if (this.#control !== undefined) this.#control.onNotify = () => this.#flushControl();
      const transmit = queues[C.CONTROL_TRANSMIT];
      if (transmit !== undefined) transmit.onNotify = () => this.#receiveControl(transmit);
    }
    for (const [number, port] of this.#ports.entries()) {
      if (number > 0 && !multiport) break;
      // The driver tells of the others when a program opens them.
      port.hear(!multiport || this.#configs[number]?.console === true);
      const first = C.portQueue(number);
      port.start(queues[first], queues[first + 1]);
    }
  }

  reset(): void {
    for (const port of this.#ports) port.reset();
    this.#control = undefined;
    this.#waiting = [];
    this.#known.clear();
  }

  request(message: Json): Json {
    const request = message as unknown as ConsoleRequest;
    if (request.kind === 'open') {
      if (request.open) this.#open.add(request.port);
      else this.#open.delete(request.port);
      if (this.#known.has(request.port)) this.#sendOpen(request.port);
      return null;
    }
    const { columns, rows } = request;
    this.#host.changeConfig(C.CONFIG_COLS, new Uint8Array(Uint16Array.of(columns, rows).buffer));
    for (const [port, { console }] of this.#configs.entries()) {
      if (console && this.#known.has(port)) this.#sendSize(port);
    }
    return null;
  }

  #sendOpen(port: number): void {
    this.#send(port, C.VIRTIO_CONSOLE_PORT_OPEN, this.#open.has(port) ? 1 : 0);
  }

  // ---- Control messages ----------------------------------------------------------------------------------------------------------

  #receiveControl(queue: Queue): void {
    const message = new DataView(new ArrayBuffer(C.CONTROL_SIZE));
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const length = chain.read(new Uint8Array(message.buffer));
      queue.push(chain, 0);
      if (length < C.CONTROL_SIZE) continue;
      this.#answer(message.getUint32(0, true), message.getUint16(4, true), message.getUint16(6, true));
    }
    queue.flush();
  }

  #answer(port: number, event: number, value: number): void {
    if (event === C.VIRTIO_CONSOLE_DEVICE_READY && value === 1) {
      for (const number of this.#ports.keys()) this.#send(number, C.VIRTIO_CONSOLE_PORT_ADD, 1);
      return;
    }
    const config = this.#configs[port];
    if (event === C.VIRTIO_CONSOLE_PORT_OPEN && config?.console === false) this.#ports[port]?.hear(value !== 0);
    if (event !== C.VIRTIO_CONSOLE_PORT_READY || value !== 1 || config === undefined) return;
    this.#known.add(port);
    if (config.console) {
      this.#send(port, C.VIRTIO_CONSOLE_CONSOLE_PORT, 1);
      this.#sendSize(port);
    }
    this.#send(port, C.VIRTIO_CONSOLE_PORT_NAME, 1, Buffer.from(config.name));
    if (this.#open.has(port)) this.#sendOpen(port);
  }

  /** The terminal's size: columns and rows (5.3.6.2), as they are in the configuration. */
  #sendSize(port: number): void {
    const size = this.#host.config.slice(C.CONFIG_COLS, C.CONFIG_ROWS + 2);
    if (size.some((byte) => byte !== 0)) this.#send(port, C.VIRTIO_CONSOLE_RESIZE, 0, size);
  }

  #send(port: number, event: number, value: number, more: Uint8Array = new Uint8Array()): void {
    if (this.#waiting.length >= MAX_WAITING) throw new BrokenDriverError('a console driver without buffers');
    const message = new DataView(new ArrayBuffer(C.CONTROL_SIZE + more.length));
    message.setUint32(0, port, true);
    message.setUint16(4, event, true);
    message.setUint16(6, value, true);
    new Uint8Array(message.buffer).set(more, C.CONTROL_SIZE);
    this.#waiting.push(new Uint8Array(message.buffer));
    this.#flushControl();
  }

  #flushControl(): void {
    const queue = this.#control;
    while (queue !== undefined && this.#waiting.length > 0) {
      const chain = queue.pop();
      if (chain === undefined) break;
      queue.push(chain, chain.write(this.#waiting.shift() as Uint8Array));
    }
    queue?.flush();
  }
}
