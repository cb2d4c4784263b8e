// The user network on a tap, so that the Linux of this machine is its guest: a process of its own, since the loop blocks.
// argv: JSON of TapNetworkOptions. Prints the tap's name when it is there, and goes on until standard input ends.
import { openSync, readSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { EPOLLIN } from '../../src/host/epoll.ts';
import { EventLoop } from '../../src/host/event-loop.ts';
import { bindUdp, listenTcp } from '../../src/host/socket.ts';
import { openTap, setHeaderSize, setOffloads, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 } from '../../src/host/tap.ts';
import { parseAddress } from '../../src/net/address.ts';
import type { UserNetworkConfig } from '../../src/net/config.ts';
import { type FrameInfo, MAX_FRAME } from '../../src/net/link.ts';
import { MemoryFrame } from '../../src/net/memory-frame.ts';
import { UserNetwork } from '../../src/net/network.ts';
import { leavesChecksum, VNET_HEADER_SIZE, writeVnetHeader } from '../../src/net/vnet-header.ts';

export interface TapNetworkOptions {
  readonly config: UserNetworkConfig;
  /** Checksums and large segments are left to the other side. */
  readonly offloads: boolean;
  readonly log?: string;
  /** Of this many frames to the guest one is lost; 0: none. */
  readonly loss?: number;
}

function serve({ config, offloads, log, loss = 0 }: TapNetworkOptions): void {
  const { fd, name } = openTap('vmtest%d');
  setHeaderSize(fd, VNET_HEADER_SIZE);
  setOffloads(fd, offloads ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0);
  const loop = new EventLoop();
  let frames = 0;
  const link = {
    offloads: { checksum: offloads, tso4: offloads, tso6: offloads },
    send(pieces: readonly Uint8Array[], info: FrameInfo): boolean {
      const header = new Uint8Array(VNET_HEADER_SIZE);
      writeVnetHeader(new DataView(header.buffer), info);
      if (loss > 0 && ++frames % loss === 0) return true;
      try {
        writeSync(fd, Buffer.concat([header, ...pieces]));
      } catch {
        // The interface is down.
      }
      return true;
    },
  };
  const published = config.published.map(({ protocol, hostAddress, hostPort }) => {
    const end = { address: parseAddress(hostAddress)!, port: hostPort };
    return protocol === 'tcp' ? listenTcp(end) : bindUdp(end);
  });
  const network = new UserNetwork(loop, link, config, {
    log: log === undefined ? undefined : openSync(log, 'a'),
    published,
  });
  const buffer = new Uint8Array(VNET_HEADER_SIZE + MAX_FRAME);
  let received = 0;
  loop.watch(fd, EPOLLIN, () => {
    for (let left = 64; left > 0; left--) {
      let length: number;
      try {
        length = readSync(fd, buffer);
      } catch {
        break;
      }
      if (loss > 0 && ++received % loss === 0) continue;
      network.input(new MemoryFrame(buffer.subarray(VNET_HEADER_SIZE, length), leavesChecksum(buffer)));
    }
    network.flush();
  });
  process.stdout.write(`${name}\n`);
  loop.run();
}

// The main thread's loop is blocked: another thread sees the end of standard input.
new Worker(
  'try { while (require("node:fs").readSync(0, Buffer.alloc(1)) > 0); } finally { process.kill(process.pid, "SIGKILL"); }',
  { eval: true },
);
serve(JSON.parse(process.argv[2]!) as TapNetworkOptions);
