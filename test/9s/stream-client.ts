/** A client of 9P on a socket, that waits for each answer, or sends as it likes. */
import { once } from 'node:events';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { WireReader } from '../../src/fs/wire.ts';
import * as p9 from '../../src/virtio/p9/protocol.ts';
import { message, text, u16, u32, u64 } from '../virtio/p9/client.ts';

export class StreamClient {
  readonly socket: Socket;
  readonly ended: Promise<unknown>;
  #input = Buffer.alloc(0);
  readonly #waiting: ((answer: Buffer) => void)[] = [];

  constructor(where: NetConnectOpts) {
    this.socket = connect(where);
    this.socket.on('error', () => {});
    this.ended = once(this.socket, 'close');
    this.socket.on('data', (bytes: Buffer) => {
      this.#input = Buffer.concat([this.#input, bytes]);
      while (this.#input.length >= 4 && this.#input.length >= this.#input.readUInt32LE(0)) {
        const size = this.#input.readUInt32LE(0);
        this.#waiting.shift()?.(Buffer.from(this.#input.subarray(0, size)));
        this.#input = this.#input.subarray(size);
      }
    });
  }

  /** The next answer that nobody waits for yet. */
  answer(): Promise<Buffer> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async ask(type: number, ...fields: readonly Uint8Array[]): Promise<WireReader> {
    const answer = this.answer();
    this.socket.write(message(type, 1, ...fields));
    return new WireReader(checked(await answer, type), p9.HEADER_SIZE);
  }

  /** Fid 0 is the root. Returns what the server says of the size of messages. */
  async attach(msize = 2 ** 24): Promise<number> {
    const version = await this.ask(p9.Tversion, u32(msize), text(p9.VERSION));
    await this.ask(p9.Tattach, u32(0), u32(0xffff_ffff), text('root'), text(''), u32(0));
    return version.u32();
  }

  async create(fid: number, name: string): Promise<void> {
    await this.ask(p9.Twalk, u32(0), u32(fid), u16(0));
    await this.ask(p9.Tlcreate, u32(fid), text(name), u32(2), u32(0o644), u32(0));
  }

  async open(fid: number, name: string): Promise<void> {
    await this.ask(p9.Twalk, u32(0), u32(fid), u16(1), text(name));
    await this.ask(p9.Tlopen, u32(fid), u32(2));
  }

  async read(fid: number, offset: number, count: number): Promise<Buffer> {
    const answer = await this.ask(p9.Tread, u32(fid), u64(offset), u32(count));
    return Buffer.from(answer.bytes(answer.u32()));
  }

  close(): Promise<unknown> {
    this.socket.destroy();
    return this.ended;
  }
}

function checked(answer: Buffer, type: number): Buffer {
  if (answer[4] !== type + 1) throw new Error(`message ${answer[4]} answers message ${type}`);
  return answer;
}
