// The translator's thread (a Worker of a vCPU's): takes collected blocks, gives back compiled modules.

import { setFlagsFromString } from 'node:v8';
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

/** Of this thread, and of those in which V8 compiles. More would starve them where other programs keep the processors busy. */
const NICENESS = 5;

/** What makes code faster must not keep the guest from running the code there is, on a host with few processors. */
function stepBack(): void {
  if (process.platform !== 'linux') return;
  setNiceness(threadId(), NICENESS);
  for (const tid of threadsNamed('node-V8Worker')) setNiceness(tid, NICENESS);
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

// A module's functions are compiled here, not by the vCPU's thread when it first calls them. The flag is of the whole process.
setFlagsFromString('--no-wasm-lazy-compilation');
stepBack();
port.on('message', work);
