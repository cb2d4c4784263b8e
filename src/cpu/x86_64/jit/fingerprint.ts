// What a region's template depends on, in 16 bytes: regions with the same fingerprint become the same template, in whatever run.

import { createHash } from 'node:crypto';
import * as L from '../layout.ts';
import { FIRST_HANDLER } from '../semantics/index.ts';
import type { BlockCopy, Collected } from './collect.ts';
import { hostFuses } from './fused.ts';

/** `apart`, `counting`: as translate() takes them. */
export function fingerprint({ blocks, mode }: Collected, apart: boolean, counting: boolean): string {
  const hash = createHash('sha256');
  hash.update(shape(blocks, [mode, Number(apart), Number(counting), Number(hostFuses())]));
  hash.update(withoutLinks(new Uint8Array((blocks[0] as BlockCopy).records.buffer)));
  return hash.digest('latin1').slice(0, 16);
}

/** How the blocks are joined: by their numbers, and by records as bytes from the first one. */
function shape(blocks: readonly BlockCopy[], rest: readonly number[]): Int32Array {
  const numbers = new Map<number | undefined, number>(blocks.map(({ first }, number) => [first, number]));
  const numberOf = (first: number | undefined): number => numbers.get(first) ?? -1;
  const words = [...rest, blocks.length];
  for (const { first, page, records, targets, next, returns } of blocks) {
    words.push(records.byteOffset, page, numberOf(next), numberOf(returns), targets.size);
    for (const [record, target] of targets) words.push(record - first, numberOf(target));
  }
  return Int32Array.from(words);
}

/** The records without what tells where other records are, or pages of code: that is filled in when a template is placed. */
function withoutLinks(records: Uint8Array): Uint8Array {
  const copy = new Uint8Array(records);
  const view = new DataView(copy.buffer);
  for (let at = 0; at < copy.length; at += L.RECORD) {
    const isInstruction = view.getUint16(at + L.R_HANDLER, true) >= FIRST_HANDLER;
    const isBranch = (view.getUint8(at + L.R_SCALE) & L.SCALE_BRANCH) !== 0;
    if (isInstruction && !isBranch) continue;
    copy.fill(0, at + L.R_FAR_KEY, at + L.R_FAR_KEY + 8);
    copy.fill(0, at + L.R_DISP, at + L.R_DISP + 8);
  }
  return copy;
}
