// The same privileged instructions on the same operands, on the built-in processor and on a KVM: what they leave is compared.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';
import { Random, seedOfRun } from '../../cpu/x86_64/instructions/random.ts';
import { withoutFullKvm } from '../kvm/guest.ts';
import { isLab } from './hypervisors.ts';
import { BareMachine } from './machine.ts';
import { KINDS, makeCase } from './privileged-cases.ts';
import { stateAfter } from './privileged-state.ts';

/** Cases of each kind in each mode. */
const CASES = 12;
/** The emulated processor of the lab has more corners than are known here: always the same cases there. */
const seed = isLab && process.env['VIVARIUM_SEED'] === undefined ? 1 : seedOfRun();

test('privileged instructions leave the same state on KVM', { skip: withoutFullKvm }, () => {
  const builtIn = new BareMachine(soft);
  const onKvm = new BareMachine(kvm);
  const random = new Random(seed);
  try {
    for (const kind of KINDS) {
      for (const mode of kind.modes) {
        for (let i = 0; i < CASES; i++) {
          const tried = makeCase(kind, mode, random);
          const message = `${kind.name}, ${mode}, case ${i}, VIVARIUM_SEED=${seed}`;
          assert.deepEqual(stateAfter(onKvm, tried), stateAfter(builtIn, tried), message);
        }
      }
    }
  } finally {
    builtIn.close();
    onKvm.close();
  }
});
