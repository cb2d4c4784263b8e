// Every device against a driver that means harm. VIVARIUM_FUZZ_STEPS says how long (a million takes a device 10 to 30 s), VIVARIUM_FUZZ_SEED
// repeats a run.
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ImageFile } from '../../src/disk/image-file.ts';
import { createQcow2 } from '../../src/disk/qcow2/create.ts';
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { sendBytes } from '../../src/host/socket.ts';
import { listenAt, socketPair } from '../../src/host/stream-socket.ts';
import { messageSocketPair, sendMessage } from '../../src/host/unix-socket.ts';
import type { DeviceModel } from '../../src/virtio/backend.ts';
import type { ChannelMessage } from '../../src/virtio/backend-channel.ts';
import { loadBackend } from '../../src/virtio/backends.ts';
import { balloonModel } from '../../src/virtio/balloon/model.ts';
import { blockModel } from '../../src/virtio/block/model.ts';
import { consoleModel } from '../../src/virtio/console/model.ts';
import { fsModel } from '../../src/virtio/fs/model.ts';
import { tapNetModel } from '../../src/virtio/net/tap-model.ts';
import { userNetModel } from '../../src/virtio/net/user-model.ts';
import { p9Model } from '../../src/virtio/p9/model.ts';
import { rngModel } from '../../src/virtio/rng/model.ts';
import { vsockModel } from '../../src/virtio/vsock/model.ts';
import { Random } from '../disk/pseudo-random.ts';
import { ANSWERED, CLOSED } from '../net/frames.ts';
import { namespacesMissing } from '../net/namespace.ts';
import { HostileDriver, type RequestKind } from './hostile-driver.ts';
import { TestDevice } from './test-device.ts';

const STEPS = Number(process.env['VIVARIUM_FUZZ_STEPS'] ?? 20_000);
const SEED = Number(process.env['VIVARIUM_FUZZ_SEED'] ?? Date.now() % 2 ** 32);
const DISK_SIZE = 1 << 22;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-virtio-fuzz-'));
after(() => rmSync(folder, { recursive: true }));

function disk(format: 'raw' | 'qcow2'): DeviceModel {
  const path = join(folder, `disk.${format}`);
  writeFileSync(path, '');
  if (format === 'raw') truncateSync(path, DISK_SIZE);
  else {
    const fd = openSync(path, 'r+');
    createQcow2(new ImageFile(fd, path), { size: DISK_SIZE });
    closeSync(fd);
  }
  return blockModel({ path, format, writable: true }, 2);
}

function ports(): DeviceModel {
  return consoleModel([
    { name: 'console', console: true, input: undefined, output: openSync('/dev/null', 'w') },
    {
      name: 'org.vivarium.test',
      console: false,
      input: openSync('/dev/zero', 'r'),
      output: openSync('/dev/full', 'w'),
    },
    { name: 'nobody', console: false, input: undefined, output: undefined },
  ]);
}

const shared = { path: folder, readOnly: true, uid: null, gid: null };

const [answers, connections] = messageSocketPair();
/** The host's ends of the guest's connections, the newest at the end. */
const ends: number[] = [];

function sockets(): DeviceModel {
  const listener = listenAt(join(folder, 'sockets'));
  return vsockModel({ cid: 3, connections: 40 }, { listener, connections });
}

/** Gives a connection to who asks for one; some say something, some go soon. */
function answer(message: ChannelMessage): void {
  if (!('event' in message)) return;
  const { id } = message.event as { readonly id: number };
  const [mine, its] = socketPair({ nonBlocking: true });
  sendMessage(answers, Buffer.from(JSON.stringify({ id })), id % 5 === 0 ? [] : [its]);
  closeDescriptor(its);
  ends.push(mine);
  if (id % 2 === 0) sendBytes(mine, Buffer.alloc((id % 7) * 5000));
  if (ends.length > 20) closeDescriptor(ends.splice(id % 20, 1)[0] as number);
}

/** A packet that may belong to one of a few connections (struct virtio_vsock_hdr). */
function vsockHeader(below: (limit: number) => number): Uint8Array {
  const words = Uint32Array.of(3, 0, 2, 0, below(6), below(6), below(40), 1 | (below(9) << 16));
  return new Uint8Array(Uint32Array.of(...words, below(4), below(100_000), below(2) * below(2 ** 32)).buffer);
}

/** An honest frame behind a virtio_net_hdr, and now and then a fault in one of them. */
function networkHeader(below: (limit: number) => number): Uint8Array {
  const frames = Object.values(ANSWERED);
  const bytes = Uint8Array.from([...new Array<number>(12).fill(0), ...(frames[below(frames.length)] as Uint8Array)]);
  if (below(3) === 0) bytes.set([below(4), below(6), below(256), 0, below(256), below(8), below(100), 0, below(100)]);
  if (below(3) === 0) bytes[below(bytes.length)] = below(256);
  return bytes;
}

/** Each device, and what it knows of requests. */
interface FuzzedDevice extends RequestKind {
  readonly model: () => DeviceModel;
  /** Takes what the device tells the main process. */
  readonly answer?: (message: ChannelMessage) => void;
  /** Why it is not tried here. */
  readonly skip?: string | false;
}

const DEVICES: Readonly<Record<string, FuzzedDevice>> = {
  'block on raw': { model: () => disk('raw'), types: [0, 1, 4, 8, 11, 13] },
  'block on qcow2': { model: () => disk('qcow2'), types: [0, 1, 4, 8, 11, 13] },
  rng: { model: rngModel, types: [0] },
  balloon: { model: balloonModel, types: [0, 1, 2, 0x200, 0x3ff, 0x400] },
  console: { model: ports, types: [0, 1, 2, 3] },
  p9: {
    model: () => p9Model({ ...shared, tag: 'share', protocol: { type: 'p9' } }),
    types: [19, 24, 64, 0x6400_0013, 0x6800_0018],
  },
  fs: {
    model: () => fsModel({ ...shared, tag: 'share', protocol: { type: 'fs', cache: 'never' } }),
    types: [40, 56, 64, 128],
  },
  vsock: { model: sockets, types: [3], header: vsockHeader, answer },
  'net, user network': {
    model: () => userNetModel({ kind: 'user', allow: [], deny: CLOSED.deny, published: [], log: undefined }),
    types: [0, 0x100, 1, 0x101, 4],
    header: networkHeader,
  },
  'net on a tap': {
    model: () => tapNetModel({ kind: 'tap', tap: { name: 'vmfuzz%d' }, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) }, 2),
    types: [0, 0x100, 1, 0x101, 4],
    header: networkHeader,
    skip: namespacesMissing(),
  },
};

for (const [name, { model, answer, skip = false, ...kind }] of Object.entries(DEVICES)) {
  test(`${name}: ${STEPS} steps, VIVARIUM_FUZZ_SEED=${SEED}`, { skip }, async () => {
    const made = model();
    const create = await loadBackend(made.device);
    const device = new TestDevice(made, create);
    const driver = new HostileDriver(device, kind, new Random(SEED));
    device.bringUp();
    let sessions = 0;
    for (let step = 0; step < STEPS; step++) {
      try {
        driver.step();
      } catch (error) {
        throw new Error(`step ${step}`, { cause: error });
      }
      while (answer !== undefined && device.hasMessage) device.messages().forEach(answer);
      if (device.queues.some((queue) => queue !== undefined)) sessions++;
    }
    // A device that breaks at once and is set up wrong after that stands idle: of 20,000 steps such are in use 8,500, 1,300 more or less.
    assert.ok(sessions > STEPS / 10, `the device was in use for ${sessions} of ${STEPS} steps`);
    // It still serves a driver that means well.
    device.reset();
    device.bringUp();
    assert.equal(device.transport.status, 0xf);
    device.close();
  });
}
