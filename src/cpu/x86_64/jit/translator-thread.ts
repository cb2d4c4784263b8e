// The translator's thread (a Worker of a vCPU's): takes batches of collected blocks, gives back compiled modules; and compiles regions again.

import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { type MessagePort, workerData } from 'node:worker_threads';
import { BUNDLE_FOLDER } from '../../../host/bundle.ts';
import { cacheFolder } from '../../../host/cache-folder.ts';
import { trimMalloc } from '../../../host/memory.ts';
import { stepBack } from '../../../host/priority.ts';
import { type Batch, compile } from './compile.ts';
import { improve, type RegionModule } from './improve.ts';
import { KeptTranslations } from './kept-translations.ts';

export interface TranslatorData {
  readonly port: MessagePort;
  /** Int32 word 0: counts the answers. */
  readonly answers: SharedArrayBuffer;
}

/**
 * Of the threads in which V8 compiles again what is hot: better code must not keep the guest from running the code there is. More steps
 * would starve them where other programs keep the processors busy.
 */
const COMPILERS_STEP_BACK = 5;

/**
 * What a function's rounds of code are worth, about in bytes, before V8 itself compiles it by TurboFan: twelve times V8's own, since samples find
 * sooner and better what is worth it (improve.ts).
 */
const TIERING_BUDGET = 160_000_000;

/** Milliseconds from work to when what V8's compilers have freed until then is given back to the host. */
const TRIM_AFTER = 5000;

// From its sources it may change at any time.
const kept =
  BUNDLE_FOLDER === undefined ? undefined : KeptTranslations.open(join(cacheFolder(), 'translations'), __filename);
const { port, answers } = workerData as TranslatorData;
const count = new Int32Array(answers);

/** By slot, of one generation: what may be asked to be compiled again. To send a module here has V8 collect this thread's garbage each time. */
const modules = new Map<number, RegionModule>();
let generation = 0;

let willTrim = false;

/** While there is work: an idle guest's process sleeps. */
function trimSoon(): void {
  if (willTrim) return;
  willTrim = true;
  setTimeout(() => {
    willTrim = false;
    trimMalloc();
  }, TRIM_AFTER).unref();
}

/** A batch, or the slot of a region of an earlier one. */
function work(message: Batch | number): void {
  if (typeof message === 'number') {
    const module = modules.get(message);
    if (module) improve(module, message);
    port.postMessage('improved');
  } else {
    if (message.generation !== generation) modules.clear();
    generation = message.generation;
    for (const slot of message.dropped) modules.delete(slot);
    const answer = compile(message, kept);
    const { module, slots } = answer;
    if (module) for (const slot of slots) modules.set(slot, { module, slots });
    port.postMessage(answer);
  }
  Atomics.add(count, 0, 1);
  trimSoon();
}

// A module's functions are compiled here, not by the vCPU's thread when it first calls them. Flags are of the whole process, and modules
// of before, the interpreter's above all, keep what they were made with.
setFlagsFromString('--no-wasm-lazy-compilation');
setFlagsFromString(`--wasm-tiering-budget=${TIERING_BUDGET}`);
stepBack('node-V8Worker', COMPILERS_STEP_BACK);
port.on('message', work);
