// A back end in a thread of the monitor.

import { workerData } from 'node:worker_threads';
import type { BackendStart } from './backend-start.ts';
import { loadBackend } from './backends.ts';
import { prepareBackend } from './device-main.ts';

const start = workerData as BackendStart;
void loadBackend(start.device).then((create) => prepareBackend(start, create)());
