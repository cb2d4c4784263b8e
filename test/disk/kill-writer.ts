// Writes to an image until it is killed. Arguments: path, seed. Prints a line when it is ready, and one after each flush.
import { writeSync } from 'node:fs';
import { rangeOf } from '../../src/disk/iovec.ts';
import { openDisk } from './images.ts';
import { GROUP, requests, SECTOR } from './kill-requests.ts';

const [path, seed] = process.argv.slice(2);
const image = openDisk(path!, true);
writeSync(1, 'ready\n');
let done = 0;
for (const { kind, first, count, value } of requests(Number(seed), image.size / SECTOR, image.clusterSize / SECTOR)) {
  const [offset, length] = [first * SECTOR, count * SECTOR];
  if (kind === 'write') {
    const data = Buffer.alloc(length);
    for (let at = 0; at < length; at += 4) data.writeUInt32LE(value, at);
    image.write(offset, [rangeOf(data)]);
  } else if (kind === 'zero') {
    image.writeZeroes(offset, length, value % 2 === 0);
  } else {
    image.discard(offset, length);
  }
  done++;
  if (done % GROUP !== 0) continue;
  image.flush();
  writeSync(1, `${done}\n`);
}
