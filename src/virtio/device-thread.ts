// A back end in a thread of the monitor.

import { workerData } from 'node:worker_threads';
import type { BackendStart } from './backend-start.ts';
import { BACKENDS } from './backends.ts';
import { prepareBackend } from './device-main.ts';

const start = workerData as BackendStart;
const load = BACKENDS[start.device];
if (load === undefined) throw new Error(`there is no device ${start.device}`);
void load().then(({ create }) => prepareBackend(start, create)());
