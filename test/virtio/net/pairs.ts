/** A card with two pairs of queues on a tap of this machine, of which the driver uses one or both. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { BackendFactory } from '../../../src/virtio/backend.ts';
import * as N from '../../../src/virtio/net/constants.ts';
import { tapNetModel } from '../../../src/virtio/net/tap-model.ts';
import { startDevice, until } from '../vhost/running.ts';

const HOST = Uint8Array.of(10, 99, 9, 1);
const GUEST = '10.99.9.2';
const GUEST_MAC = '02:00:00:00:00:02';
const COMMAND = 0x10_000;
const BUFFERS = 0x20_0000;
/** Datagrams to a port each: more than enough for each of two queues to be chosen. */
const FLOWS = 64;
const SENDER = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(${FLOWS}): s.sendto(b'x' * 20, ('${GUEST}', 5000 + i))
`;
/** Such a datagram with its headers. */
const WRITTEN = 12 + 14 + 20 + 8 + 20;
const [FIRST, SECOND, SECOND_TRANSMIT, CONTROL] = [0, 2, 3, 4];

export async function usePairs(create: BackendFactory, place: 'thread' | 'jail', vhost = false): Promise<void> {
  const name = `vmq${process.pid % 100000}`;
  const host = { address: HOST, netmask: Uint8Array.of(255, 255, 255, 0), mac: Uint8Array.of(2, 0, 0, 0, 0, 1) };
  const model = tapNetModel({ kind: 'tap', tap: { name }, vhost, ...host }, 2);
  const { device, reset, end } = await startDevice(model, create, place);
  const wait = (what: string, done: () => boolean): Promise<void> =>
    until(what, () => {
      device.poll();
      return done();
    });
  /** Datagrams that came to each receive queue. */
  const arrived = async (): Promise<readonly number[]> => {
    assert.equal(spawnSync('python3', ['-c', SENDER]).status, 0);
    const counts = [0, 0];
    await wait('datagrams are lost', () => {
      for (const [i, number] of [FIRST, SECOND].entries()) {
        const queue = device.queues[number!]!;
        for (let used = queue.take(); used !== undefined; used = queue.take()) {
          if (used.written === WRITTEN) counts[i]!++;
        }
      }
      return counts[0]! + counts[1]! === FLOWS;
    });
    return counts;
  };
  const use = async (pairs: number): Promise<void> => {
    const control = device.queues[CONTROL!]!;
    device.memory.write(COMMAND, Uint8Array.of(4, 0, pairs, 0));
    control.add([
      { address: COMMAND, length: 4 },
      { address: COMMAND + 16, length: 1, writable: true },
    ]);
    device.notify(CONTROL!);
    await wait('no answer', () => control.take() !== undefined);
    assert.equal(device.memory.readU8(COMMAND + 16), N.VIRTIO_NET_OK);
  };
  const bringUp = (): void => {
    device.bringUp();
    for (const [i, receive] of [FIRST, SECOND].entries()) {
      for (let n = 0; n < 250; n++) {
        device.queues[receive!]!.add([{ address: BUFFERS + 4096 * (250 * i + n), length: 4096, writable: true }]);
      }
      device.notify(receive!);
    }
  };
  try {
    assert.equal(spawnSync('ip', ['neigh', 'add', GUEST, 'lladdr', GUEST_MAC, 'dev', name]).status, 0);
    bringUp();
    assert.deepEqual(await arrived(), [FLOWS, 0], 'before the driver says how many');
    await use(2);
    const both = await arrived();
    assert.ok(!both.includes(0), both.join());
    await use(1);
    assert.deepEqual(await arrived(), [FLOWS, 0]);
    // What is sent by a pair that is not in use is lost, and no harm is done.
    const transmit = device.queues[SECOND_TRANSMIT!]!;
    transmit.add([{ address: COMMAND, length: 72 }]);
    device.notify(SECOND_TRANSMIT!);
    await wait('the frame is not taken', () => transmit.take() !== undefined);
    assert.equal(device.transport.state.config[N.CONFIG_STATUS], N.VIRTIO_NET_S_LINK_UP);
    await use(2);
    await reset();
    bringUp();
    assert.deepEqual(await arrived(), [FLOWS, 0], 'after a reset');
  } finally {
    await end();
  }
}
