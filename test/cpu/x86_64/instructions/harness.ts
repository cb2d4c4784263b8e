import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import * as L from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeFeatures, nativeTarget, nativeUnavailable } from '../../../native/native-target.ts';
import { describeDifference, firstDifference, normalise } from './compare.ts';
import type { Form } from './form.ts';
import { generate, newBatch } from './generator.ts';
import { casesOfRun, Random, seedOfRun } from './random.ts';
import type { Exits, InstructionTarget } from './target.ts';

/** Differences shown for one form. */
const SHOWN = 3;

/** Random numbers of a form: its own, so that forms may be run alone with the same seed. */
function seedOf(seed: number, form: Form): number {
  let hash = seed;
  for (const letter of `${form.line}/${form.name}`) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  return hash >>> 0;
}

function exitsOf(labels: ReadonlyMap<string, number>): Exits {
  return { next: labels.get('exit_next') as number, taken: labels.get('exit_taken') as number };
}

/** Runs `count` cases of a form on both targets; returns descriptions of the first differences, and how many there are. */
export function compareForm(
  form: Form,
  reference: InstructionTarget,
  target: InstructionTarget,
  count: number,
  seed: number,
): { shown: string[]; differences: number } {
  const batch = newBatch();
  const random = new Random(seedOf(seed, form));
  const exits = exitsOf(machineCode().labels);
  const shown: string[] = [];
  let differences = 0;
  for (let done = 0; done < count; ) {
    const n = Math.min(count - done, L.MAX_CASES);
    for (let i = 0; i < n; i++) generate(batch, i, form, random, exits);
    const run = (on: InstructionTarget): Uint8Array<ArrayBuffer> => {
      on.cases.set(batch.cases.subarray(0, n * L.CASE_SIZE));
      on.code.set(batch.code.subarray(0, n * L.CODE_SLOT));
      on.run(n);
      const out = on.cases.slice(0, n * L.CASE_SIZE);
      normalise(batch, out, n);
      return out;
    };
    const expected = run(reference);
    const actual = run(target);
    for (let i = firstDifference(expected, actual, n); i >= 0; i = firstDifference(expected, actual, n, i + 1)) {
      if (shown.length < SHOWN) shown.push(describeDifference(form, batch, i, expected, actual));
      differences++;
    }
    done += n;
  }
  return { shown, differences };
}

/** Forms of one line together. */
function byLine(forms: readonly Form[]): Map<string, Form[]> {
  const lines = new Map<string, Form[]>();
  for (const form of forms) lines.set(form.line, [...(lines.get(form.line) ?? []), form]);
  return lines;
}

/** Defines a test for each line of the table: this machine's processor against the target. `share`: of the usual number of cases. */
export function testForms(forms: readonly Form[], makeTarget: () => InstructionTarget, share = 1): void {
  const unavailable = nativeUnavailable();
  if (unavailable !== undefined) {
    test('instructions against this processor', { skip: unavailable }, () => {});
    return;
  }
  const seed = seedOfRun();
  const count = Math.ceil(casesOfRun() * share);
  console.log(`# instructions: VIVARIUM_SEED=${seed}, ${count} cases for each of ${forms.length} forms`);
  const features = nativeFeatures();
  let target: InstructionTarget | undefined;
  after(() => target?.close());
  for (const [line, ofLine] of byLine(forms)) {
    const missing = ofLine[0]?.features.find((feature) => !features.has(feature));
    const skip = missing === undefined ? false : `this processor has no ${missing}`;
    test(line.replaceAll(/\s+/g, ' '), { skip }, () => {
      target ??= makeTarget();
      for (const form of ofLine) {
        const { shown, differences } = compareForm(form, nativeTarget(), target, count, seed);
        assert.equal(
          differences,
          0,
          `${differences} of ${count} cases differ, VIVARIUM_SEED=${seed}\n${shown.join('\n')}`,
        );
      }
    });
  }
}
