// A DNS server on the loopback, for tests: answers what it is told to, over UDP (512 octets, then truncated) and TCP.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { parseAddress } from '../../src/net/address.ts';

/** Answer section of a response to a question at offset 12: count and bytes. */
export interface Answers {
  readonly count: number;
  readonly bytes: Buffer;
}

/** Address records for the name asked. */
export function answerTo(...addresses: readonly string[]): Answers {
  const records = addresses.map((text) => {
    const address = parseAddress(text)!;
    const head = Buffer.from([0xc0, 12, 0, address.length === 4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, address.length]);
    return Buffer.concat([head, address]);
  });
  return { count: records.length, bytes: Buffer.concat(records) };
}

export class TestResolver {
  /** Names that were asked. */
  readonly questions: string[] = [];
  /** Connections. */
  streams = 0;
  readonly #datagrams: Socket;
  readonly #server: Server;
  readonly #zone: Record<string, Answers>;

  constructor(datagrams: Socket, server: Server, zone: Record<string, Answers>) {
    this.#datagrams = datagrams;
    this.#server = server;
    this.#zone = zone;
    datagrams.on('message', (query, peer) => {
      const response = this.#answer(query);
      // Truncated: the question alone.
      if (response.length > 512) {
        response.writeUInt16BE(response.readUInt16BE(2) | 0x200, 2);
        response.writeUInt16BE(0, 6);
        datagrams.send(response.subarray(0, endOfQuestion(query)), peer.port, peer.address);
      } else {
        datagrams.send(response, peer.port, peer.address);
      }
    });
    server.on('connection', (socket) => {
      this.streams++;
      socket.on('error', () => {});
      socket.on('data', (data: Buffer) => {
        const response = this.#answer(data.subarray(2));
        const length = Buffer.alloc(2);
        length.writeUInt16BE(response.length);
        socket.write(Buffer.concat([length, response]));
      });
    });
  }

  #answer(query: Buffer): Buffer {
    const labels: string[] = [];
    for (let at = 12; query[at] !== 0; at += query[at]! + 1) {
      labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
    }
    const name = labels.join('.').toLowerCase();
    this.questions.push(name);
    const type = query.readUInt16BE(endOfQuestion(query) - 4);
    const known = this.#zone[name];
    const answers = type === 1 ? known : undefined;
    const head = Buffer.from(query.subarray(0, endOfQuestion(query)));
    head.writeUInt16BE(0x8180 | (known === undefined ? 3 : 0), 2);
    head.writeUInt16BE(answers?.count ?? 0, 6);
    head.writeUInt32BE(0, 8);
    return Buffer.concat([head, answers?.bytes ?? Buffer.alloc(0)]);
  }

  async stop(): Promise<void> {
    this.#datagrams.close();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

function endOfQuestion(query: Buffer): number {
  let at = 12;
  while (query[at] !== 0) at += query[at]! + 1;
  return at + 5;
}

/** Starts a resolver at port 53 of a loopback address. */
export async function startResolver(address: string, zone: Record<string, Answers>): Promise<TestResolver> {
  const datagrams = createSocket('udp4').bind(53, address);
  const server = createServer().listen(53, address);
  await Promise.all([once(datagrams, 'listening'), once(server, 'listening')]);
  return new TestResolver(datagrams, server, zone);
}
