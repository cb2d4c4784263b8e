// The kills of kills.test.ts on KVM. In the lab they take an hour or two: if VIVARIUM_LAB is set.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepareLab } from '../../lab/build.ts';
import { onFullKvm, withoutLab } from './full-kvm.ts';
import { defaultGuest } from './kernels.ts';
import { madeOfPackages } from './packages.ts';

const KILLS = Number(process.env['KILLS'] ?? 50);
/** Milliseconds. */
const LIMIT = 600_000 + KILLS * 240_000;

const asked = process.env['VIVARIUM_LAB'] !== undefined;
const skip = asked ? withoutLab() : 'with VIVARIUM_LAB=1 they are done';

test(`on KVM, killed ${KILLS} times: nothing that was flushed is lost`, {
  skip,
  timeout: LIMIT + 300_000,
}, async (t) => {
  const lab = await madeOfPackages(t, async () => {
    await defaultGuest();
    return prepareLab((line) => t.diagnostic(line));
  });
  if (lab === undefined) return;
  const environment = ['KILLS_ON=kvm', `KILLS=${KILLS}`];
  const { status, output } = await onFullKvm(t, lab, { files: ['test/e2e/kills.test.ts'], environment, limit: LIMIT });
  assert.equal(status, 0, output);
  const kills = [...output.matchAll(/kill \d+: .* requests flushed/g)];
  for (const [line] of kills) t.diagnostic(line);
  assert.equal(kills.length, KILLS, output);
});
