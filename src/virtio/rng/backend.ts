import { fillRandom } from '../../host/random.ts';
import type { Backend } from '../backend.ts';
import type { Chain } from '../chain.ts';
import type { Queue } from '../queue.ts';

/** Bytes for one request, at most: the driver takes fewer than it asked for. */
const MAX_BYTES = 64 * 1024;

/** Fills what the driver can read with the kernel's random bytes. */
export function create(): Backend {
  return {
    start: ({ queues: [queue] }) => {
      if (queue !== undefined) queue.onNotify = () => serve(queue);
    },
    reset: () => {},
  };
}

function serve(queue: Queue): void {
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.push(chain, fill(chain));
  queue.flush();
}

/** Returns how many bytes it wrote. */
function fill(chain: Chain): number {
  let done = 0;
  for (const { address, length } of chain.writable) {
    const wanted = Math.min(length, MAX_BYTES - done);
    const count = wanted === 0 ? 0 : fillRandom(address, wanted);
    done += count;
    if (count < length) break;
  }
  return done;
}
