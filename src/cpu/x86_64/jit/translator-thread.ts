// The translator's thread (a Worker of a vCPU's): takes collected blocks, gives back compiled modules.

import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { Collected } from './collect.ts';
import { readRegion } from './region.ts';
import { type PlacedRegion, translate } from './translate.ts';

export interface TranslatorData {
  readonly port: MessagePort;
  /** Int32 word 0: counts the answers. */
  readonly answers: SharedArrayBuffer;
}

export interface Request {
  readonly collected: Collected;
  /** Index in the handlers' table for the region's function. */
  readonly slot: number;
  /** ARENA_GENERATION of the collected blocks: slots are used again in the next. */
  readonly generation: number;
}

export interface Answer {
  /** Fills the slots when it is instantiated. */
  readonly module: WebAssembly.Module;
  readonly slots: readonly number[];
  /** Of all its regions. */
  readonly generation: number;
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
      compile(batch);
      if (!request) return;
      batch = [];
    }
    batch.push(request);
  }
}

function compile(requests: readonly Request[]): void {
  const regions: PlacedRegion[] = [];
  for (const { collected, slot } of requests) {
    const region = readRegion(collected);
    if (region) regions.push({ region, slot });
  }
  const [first] = requests;
  if (!first || regions.length === 0) return;
  const { bytes, slots } = translate(regions);
  const answer: Answer = { module: new WebAssembly.Module(bytes), slots, generation: first.generation };
  port.postMessage(answer);
  Atomics.add(count, 0, 1);
}

port.on('message', work);
