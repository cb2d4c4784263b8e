// The translator's thread (a Worker of a vCPU's): takes collected blocks, gives back compiled modules.

import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { compile, type Request } from './compile.ts';

export interface TranslatorData {
  readonly port: MessagePort;
  /** Int32 word 0: counts the answers. */
  readonly answers: SharedArrayBuffer;
}

/** Regions of one module at most: what is compiled together is also kept together. */
const BATCH = 32;

const { port, answers } = workerData as TranslatorData;
const count = new Int32Array(answers);

/** Translates what waits. */
function work(first: Request): void {
  let batch: Request[] = [first];
  for (;;) {
    const request = receiveMessageOnPort(port)?.message as Request | undefined;
    if (!request || batch.length === BATCH || request.generation !== batch[0]?.generation) {
      answer(batch);
      if (!request) return;
      batch = [];
    }
    batch.push(request);
  }
}

function answer(requests: readonly Request[]): void {
  const result = compile(requests);
  if (!result) return;
  port.postMessage(result);
  Atomics.add(count, 0, 1);
}

port.on('message', work);
