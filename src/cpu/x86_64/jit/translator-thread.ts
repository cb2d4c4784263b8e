// The translator's thread (a Worker of a vCPU's): takes collected blocks, gives back compiled modules.

import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { setNiceness, threadId, threadsNamed } from '../../../host/threads.ts';
import { compile, type Request } from './compile.ts';

export interface TranslatorData {
  readonly port: MessagePort;
  /** Int32 word 0: counts the answers. */
  readonly answers: SharedArrayBuffer;
}

/** Regions of one module at most: what is compiled together is also kept together. */
const BATCH = 32;

/** Of this thread, and of the threads in which V8 compiles. */
const TRANSLATOR_NICENESS = 15;
const COMPILER_NICENESS = 10;

/** What makes code faster must not keep the guest from running the code there is, on a host with few processors. */
function stepBack(): void {
  if (process.platform !== 'linux') return;
  setNiceness(threadId(), TRANSLATOR_NICENESS);
  for (const tid of threadsNamed('node-V8Worker')) setNiceness(tid, COMPILER_NICENESS);
}

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

stepBack();
port.on('message', work);
