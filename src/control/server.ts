/**
 * The control socket: HTTP with JSON over a Unix socket, in the main thread, which runs no guest code. Whoever connects is this
 * user (or root), and may still be slow, many, or confused: sizes, times and numbers are limited.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, finished } from 'node:stream';
import { ControlError, type ControlledMachine } from './machine.ts';
import { type Answer, findRoute } from './requests.ts';
import { makeSocketFile, requireFree } from './socket-file.ts';

/** Bytes of a request's body; the largest that makes sense has some 40. */
const BODY_MAX = 4096;
/** Bytes of a request's first line and headers. */
const HEADERS_MAX = 8192;
/** Open connections; more are closed at once. */
const CONNECTIONS_MAX = 64;
/** Milliseconds: for the headers, for the whole request, for the next one, and for a reader who does not read. */
const HEADERS_TIMEOUT = 5000;
const REQUEST_TIMEOUT = 10_000;
const KEEP_ALIVE = 5000;
const SOCKET_TIMEOUT = 30_000;
const CHECK_INTERVAL = 1000;

const TEXT = 'text/plain; version=0.0.4; charset=utf-8';
const JSON_TYPE = 'application/json';

export class ControlServer {
  readonly path: string;
  readonly #server: Server;
  readonly #remove: () => void;
  #machine: ControlledMachine | undefined;

  /** Makes the socket; requests wait for serve(). Throws ControlError. */
  constructor(path: string) {
    requireFree(path);
    this.path = path;
    this.#server = createServer(
      {
        maxHeaderSize: HEADERS_MAX,
        headersTimeout: HEADERS_TIMEOUT,
        requestTimeout: REQUEST_TIMEOUT,
        keepAliveTimeout: KEEP_ALIVE,
        connectionsCheckingInterval: CHECK_INTERVAL,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.timeout = SOCKET_TIMEOUT;
    this.#server.on('clientError', refuse);
    let failure: NodeJS.ErrnoException | undefined;
    // Binding fails at once, and is told later: the file is there, or not.
    this.#server.on('error', (error) => {
      failure = error;
    });
    try {
      this.#remove = makeSocketFile(path, () => this.#server.listen(path));
    } catch {
      this.#server.close();
      throw new ControlError(
        409,
        `${path}: the control socket cannot be made: ${failure?.message ?? 'no such folder'}`,
      );
    }
    this.#server.unref();
  }

  /** Answers requests from now on. */
  serve(machine: ControlledMachine): void {
    this.#machine = machine;
  }

  /** Takes the socket away; what is being answered is cut off. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#remove();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on('error', () => {});
    response.on('error', () => {});
    let answer: Answer;
    try {
      answer = await this.#answer(request);
    } catch (error) {
      answer = failureOf(error);
      // What is left of a body that is too long is not waited for.
      if (answer.status === 413) response.setHeader('Connection', 'close');
      const methods = answer.status === 405 ? allowed(request) : undefined;
      if (methods !== undefined) response.setHeader('Allow', methods);
    }
    // Also for one who has hung up already.
    if (answer.afterwards) finished(response, answer.afterwards);
    const text = typeof answer.body === 'string';
    const bytes = Buffer.from(text ? (answer.body as string) : `${JSON.stringify(answer.body)}\n`);
    response.writeHead(answer.status, { 'Content-Type': text ? TEXT : JSON_TYPE, 'Content-Length': bytes.length });
    response.end(bytes);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const machine = this.#machine;
    if (machine === undefined) throw new ControlError(409, 'the machine is being built');
    const found = findRoute(pathOf(request));
    if (found === undefined) throw new ControlError(404, 'there is no such path');
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '');
    const handler = Object.hasOwn(found.route.methods, method) ? found.route.methods[method] : undefined;
    if (handler === undefined) throw new ControlError(405, `${found.route.path} takes ${allowed(request)}`);
    return handler(machine, await readBody(request), found.parameters);
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0]!;
}

function allowed(request: IncomingMessage): string | undefined {
  const found = findRoute(pathOf(request));
  return found && Object.keys(found.route.methods).join(', ');
}

/** Reads on where the body is too long, so that its sender comes to the answer. */
function readBody(request: IncomingMessage): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let size = 0;
    request.on('data', (piece: Buffer) => {
      size += piece.length;
      if (size <= BODY_MAX) pieces.push(piece);
      else reject(new ControlError(413, `the body has more than ${BODY_MAX} bytes`));
    });
    request.on('close', () => reject(new ControlError(400, 'the body was cut off')));
    request.on('end', () => {
      try {
        resolve(size === 0 ? undefined : JSON.parse(Buffer.concat(pieces).toString('utf8')));
      } catch {
        reject(new ControlError(400, 'the body is no JSON'));
      }
    });
  });
}

/** An error as an answer: what somebody can mend as it is, what is our mistake as that. */
function failureOf(error: unknown): Answer {
  if (error instanceof ControlError) return { status: error.status, body: { error: error.message } };
  const message = error instanceof Error ? error.message : String(error);
  const ours = error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError;
  return { status: ours ? 500 : 409, body: { error: ours ? `internal error: ${message}` : message } };
}

/** Answers what is no HTTP, too large or too slow, and hangs up. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  const body = `${JSON.stringify({ error: STATUS_CODES[status] })}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: ${JSON_TYPE}\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  // Who does not hang up now is hung up on: end() waits for the other side.
  (socket as Socket).destroySoon();
}
