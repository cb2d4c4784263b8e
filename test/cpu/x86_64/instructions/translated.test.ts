// Translated code against this machine's processor: each form alone, and random sequences with branches and loops.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeFeatures, nativeTarget, nativeUnavailable } from '../../../native/native-target.ts';
import { BuiltInTarget } from './built-in-target.ts';
import { describeDifference, firstDifference, normalise } from './compare.ts';
import type { Form } from './form.ts';
import { newBatch } from './generator.ts';
import { testForms } from './harness.ts';
import { casesOfRun, Random, seedOfRun } from './random.ts';
import { generateSequence, isSequenceForm, MAX_SEQUENCES, sequenceBytes } from './sequences.ts';
import { integerForms, stackForms, stringForms } from './tables/integer.ts';

// Each case is a WebAssembly module of its own: fewer of them.
testForms([...integerForms, ...stackForms, ...stringForms], () => new BuiltInTarget('at-once'), 1 / 40);

const skip = nativeUnavailable() ?? false;

for (const translation of ['none', 'at-once'] as const) {
  test(`sequences, translation: ${translation}`, { skip }, () => {
    const features = nativeFeatures();
    const forms = integerForms.filter(
      (form) => isSequenceForm(form) && form.features.every((feature) => features.has(feature)),
    );
    const seed = seedOfRun();
    const random = new Random(seed);
    const { labels } = machineCode();
    const exits = { next: labels.get('exit_next') as number, taken: labels.get('exit_taken') as number };
    const target = new BuiltInTarget(translation);
    const native = nativeTarget();
    for (let done = 0; done < casesOfRun(); done += MAX_SEQUENCES) {
      const batch = newBatch();
      for (let i = 0; i < MAX_SEQUENCES; i++) generateSequence(batch, i, forms, random, exits);
      const [expected, actual] = [native, target].map((on) => {
        on.cases.set(batch.cases.subarray(0, MAX_SEQUENCES * L.CASE_SIZE));
        on.code.set(batch.code);
        on.run(MAX_SEQUENCES);
        const out = on.cases.slice(0, MAX_SEQUENCES * L.CASE_SIZE);
        normalise(batch, out, MAX_SEQUENCES);
        return out;
      }) as [Uint8Array, Uint8Array];
      const index = firstDifference(expected, actual, MAX_SEQUENCES);
      if (index < 0) continue;
      const form = { name: 'sequence', line: '' } as Form;
      assert.fail(
        `VIVARIUM_SEED=${seed}\n${describeDifference(form, batch, index, expected, actual)}\n  code ${sequenceBytes(batch, index)}`,
      );
    }
  });
}
