// A thread that swaps a directory with a link to outside, as fast as it can: dir <-> link below workerData.path.
import { parentPort, workerData } from 'node:worker_threads';
import { openStart, renameFile } from '../../src/host/files.ts';

const RENAME_EXCHANGE = 2;
const folder = openStart((workerData as { path: string }).path);
const [directory, link] = [Buffer.from('dir\0'), Buffer.from('link\0')];

renameFile(folder, directory, folder, link, RENAME_EXCHANGE);
parentPort?.postMessage('begun');
for (;;) renameFile(folder, directory, folder, link, RENAME_EXCHANGE);
