import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeFeatures, nativeTarget, nativeUnavailable } from '../../../native/native-target.ts';
import type { Form } from './form.ts';
import { generate, newBatch } from './generator.ts';
import { compareForm } from './harness.ts';
import { Random, seedOfRun } from './random.ts';
import { integerForms, stackForms, stringForms } from './tables/integer.ts';

const skip = nativeUnavailable() ?? false;
const features = skip === false ? nativeFeatures() : new Set<string>();
const forms = [...integerForms, ...stackForms, ...stringForms].filter((form) =>
  form.features.every((name) => features.has(name)),
);
const seed = seedOfRun();

test('native runs repeat', { skip }, () => {
  for (const form of forms) {
    const { shown } = compareForm(form, nativeTarget(), nativeTarget(), 100, seed);
    assert.deepEqual(shown, [], `VIVARIUM_SEED=${seed}`);
  }
});

/** Forms that always raise an exception at CPL 3. */
const FAULTING = new Set([
  'ud0',
  'ud1',
  'ud2',
  'int3',
  'int1',
  'hlt',
  'cli',
  'sti',
  'in',
  'out',
  'clts',
  'invd',
  'wrmsr',
  'rdmsr',
]);

// Of random divisions (IDIV of 16 bits) 85 of 200 raise #DE, 7 more or less: half of them would be within chance.
test('a third of the cases of each form ends without an exception', { skip }, () => {
  const labels = machineCode().labels;
  const exits = { next: labels.get('exit_next') as number, taken: labels.get('exit_taken') as number };
  const batch = newBatch();
  const target = nativeTarget();
  const faults = (form: Form): number => {
    const random = new Random(seed);
    for (let i = 0; i < 200; i++) generate(batch, i, form, random, exits);
    target.cases.set(batch.cases.subarray(0, 200 * L.CASE_SIZE));
    target.code.set(batch.code.subarray(0, 200 * L.CODE_SLOT));
    target.run(200);
    const view = new DataView(target.cases.buffer, target.cases.byteOffset);
    let count = 0;
    for (let i = 0; i < 200; i++) if (view.getUint32(i * L.CASE_SIZE + L.CASE_OUT, true) === L.EXIT_FAULT) count++;
    return count;
  };
  for (const form of forms) {
    const count = faults(form);
    if (FAULTING.has(form.mnemonic)) assert.equal(count, 200, form.name);
    else assert.ok(count < 134, `${form.name}: ${count} of 200 cases raise an exception, VIVARIUM_SEED=${seed}`);
  }
});
