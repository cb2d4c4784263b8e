// A driver of the socket device, and the host around it: packets, services by their ports, clients.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeDescriptor } from '../../../src/host/descriptor.ts';
import { sendBytes } from '../../../src/host/socket.ts';
import { connectTo, listenAt, socketPair } from '../../../src/host/stream-socket.ts';
import { messageSocketPair, sendMessage } from '../../../src/host/unix-socket.ts';
import { create, type VsockEvent } from '../../../src/virtio/vsock/backend.ts';
import { vsockModel } from '../../../src/virtio/vsock/model.ts';
import { TestDevice } from '../test-device.ts';

export const CID = 77;
export const HEADER = 44;
/** Bytes of data that a receive buffer has room for. */
export const ROOM = 4096;
const BUFFERS = 64;
const RECEIVE = 0x20_0000;
const TRANSMIT = 0x30_0000;
const SLOT = 0x2000;

export const OP = { request: 1, response: 2, rst: 3, shutdown: 4, rw: 5, creditUpdate: 6, creditRequest: 7 } as const;

export interface Packet {
  readonly host: number;
  readonly guest: number;
  readonly op: number;
  readonly type: number;
  readonly flags: number;
  readonly bufAlloc: number;
  readonly fwdCnt: number;
  readonly data: Uint8Array;
}

/** What a test says of a packet; the rest is as it should be. */
export interface Said extends Partial<Omit<Packet, 'data'>> {
  readonly srcCid?: bigint;
  readonly dstCid?: bigint;
  readonly data?: Uint8Array;
  /** Another length than that of the data. */
  readonly length?: number;
}

/** The driver's end of a device that is up. */
export class PacketDriver {
  readonly device: TestDevice;
  /** Where receive buffers are, by the heads of their chains; free ones. */
  readonly #offered = new Map<number, number>();
  readonly #free: number[] = Array.from({ length: BUFFERS }, (_, i) => RECEIVE + i * SLOT);
  /** Receive buffers that the device has at most. */
  buffers = BUFFERS;

  constructor(device: TestDevice) {
    this.device = device;
  }

  /** The device was reset: its buffers are free. */
  forget(): void {
    this.#free.push(...this.#offered.values());
    this.#offered.clear();
  }

  /** Packets that have come; the device has all buffers again before. */
  take(): Packet[] {
    this.#offer();
    this.device.notify(0);
    const packets: Packet[] = [];
    for (let used = this.device.queues[0]!.take(); used !== undefined; used = this.device.queues[0]!.take()) {
      const at = this.#offered.get(used.head)!;
      this.#offered.delete(used.head);
      this.#free.push(at);
      packets.push(this.#read(at, used.written));
    }
    return packets;
  }

  #offer(): void {
    while (this.#offered.size < this.buffers) {
      const at = this.#free.pop()!;
      // As Linux does: the header apart from the data.
      const pieces = [
        { address: at, length: HEADER, writable: true },
        { address: at + HEADER, length: ROOM, writable: true },
      ];
      this.#offered.set(this.device.queues[0]!.add(pieces), at);
    }
  }

  #read(at: number, written: number): Packet {
    const { memory } = this.device;
    const length = memory.readU32(at + 24);
    assert.equal(written, HEADER + length);
    assert.deepEqual([memory.readU64(at), memory.readU64(at + 8)], [2n, BigInt(CID)]);
    return {
      host: memory.readU32(at + 16),
      guest: memory.readU32(at + 20),
      type: memory.readU16(at + 28),
      op: memory.readU16(at + 30),
      flags: memory.readU32(at + 32),
      bufAlloc: memory.readU32(at + 36),
      fwdCnt: memory.readU32(at + 40),
      data: memory.read(at + HEADER, length).slice(),
    };
  }

  /** Sends a packet. Returns whether the device has taken it. */
  send(said: Said): boolean {
    const { memory, queues } = this.device;
    const data = said.data ?? new Uint8Array();
    memory.writeU64(TRANSMIT, said.srcCid ?? BigInt(CID));
    memory.writeU64(TRANSMIT + 8, said.dstCid ?? 2n);
    memory.writeU32(TRANSMIT + 16, said.guest ?? 0);
    memory.writeU32(TRANSMIT + 20, said.host ?? 0);
    memory.writeU32(TRANSMIT + 24, said.length ?? data.length);
    memory.writeU16(TRANSMIT + 28, said.type ?? 1);
    memory.writeU16(TRANSMIT + 30, said.op ?? 0);
    memory.writeU32(TRANSMIT + 32, said.flags ?? 0);
    memory.writeU32(TRANSMIT + 36, said.bufAlloc ?? 0);
    memory.writeU32(TRANSMIT + 40, said.fwdCnt ?? 0);
    memory.write(TRANSMIT + HEADER, data);
    const pieces = [{ address: TRANSMIT, length: HEADER }];
    if (data.length > 0) pieces.push({ address: TRANSMIT + HEADER, length: data.length });
    queues[1]!.add(pieces);
    this.device.notify(1);
    return queues[1]!.take() !== undefined;
  }
}

/** A device in user space, and the host around it. */
export class VsockDriver extends PacketDriver {
  readonly path: string;
  /** Ports of the host where somebody serves: the host's ends of the connections, in their order. */
  readonly services = new Map<number, number[]>();
  readonly #folder: string;
  readonly #answers: number;
  readonly #descriptors: number[] = [];

  constructor(connections = 64) {
    const folder = mkdtempSync(join(tmpdir(), 'vivarium-vsock-'));
    const path = join(folder, 'v');
    const [mine, its] = messageSocketPair();
    const model = vsockModel({ cid: CID, connections }, { listener: listenAt(path), connections: its });
    super(new TestDevice(model, create));
    this.#folder = folder;
    this.path = path;
    this.#answers = mine;
    this.device.bringUp();
  }

  /** A client of the host that has said what it says first. */
  client(first: string): number {
    const fd = connectTo(this.path);
    assert.ok(fd >= 0, `connect: ${fd}`);
    this.#descriptors.push(fd);
    assert.equal(sendBytes(fd, Buffer.from(first)), first.length);
    return fd;
  }

  /** A descriptor is closed now, not at the end. */
  close(fd: number): void {
    this.#descriptors.splice(this.#descriptors.indexOf(fd), 1);
    closeDescriptor(fd);
  }

  /** The device and the host do what there is to do. Returns the packets that came. */
  receive(): Packet[] {
    const packets: Packet[] = [];
    for (;;) {
      const before = packets.length;
      packets.push(...this.take());
      this.#serve();
      this.device.poll();
      packets.push(...this.take());
      if (packets.length === before && !this.device.hasMessage) return packets;
    }
  }

  /** Answers the device's questions as the main process does. */
  #serve(): void {
    while (this.device.hasMessage) {
      for (const message of this.device.messages()) {
        if (!('event' in message)) continue;
        const { id, port } = message.event as unknown as VsockEvent;
        const ends = this.services.get(port);
        const pair = ends && socketPair({ nonBlocking: true });
        sendMessage(this.#answers, Buffer.from(JSON.stringify({ id })), pair ? [pair[1]] : []);
        if (pair === undefined) continue;
        closeDescriptor(pair[1]);
        ends?.push(pair[0]);
        this.#descriptors.push(pair[0]);
      }
    }
  }

  end(): void {
    this.device.reset();
    this.device.close();
    for (const fd of [...this.#descriptors, this.#answers]) closeDescriptor(fd);
    rmSync(this.#folder, { recursive: true });
  }
}
