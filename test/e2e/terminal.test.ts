// At a terminal: `script` gives the run one of its own.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultGuest } from './kernels.ts';
import { PROGRAM, RunningGuest } from './running-guest.ts';

before(async () => {
  await defaultGuest();
});

/** Runs the default guest at a terminal, between two looks at the terminal's settings. */
function atTerminal(): RunningGuest {
  const line = `stty -a; echo BE"FORE"; '${process.execPath}' '${PROGRAM}' run --hypervisor soft -p quiet; echo STATUS $?; stty -a; echo AF"TER"`;
  return new RunningGuest('script', ['-qfec', line, '/dev/null'], { TERM: 'vt100', SHELL: '/bin/sh' });
}

/** The terminal is as it was. */
async function ends(run: RunningGuest, settings: string): Promise<void> {
  await run.expect('STATUS 0\r\n');
  assert.equal(await run.expect('AFTER'), settings);
  assert.deepEqual(await run.end(), { status: 0, signal: null });
}

test('keys go to the guest as they are; poweroff restores the terminal', async (t) => {
  const run = atTerminal();
  t.after(() => run.kill());
  const settings = await run.expect('BEFORE\r\n');
  await run.shell();
  run.send('sleep 1000\r');
  await run.expect('sleep 1000');
  await sleep(1000);
  run.send('\x03');
  await run.expect('# ');
  run.send('echo status=$?\r');
  await run.expect('status=130');
  // Ctrl-A twice sends one.
  run.send('cat > /tmp/a\r');
  await run.expect('/tmp/a\r');
  // The shell's line editor drops what is typed before its next program has the terminal.
  await sleep(1000);
  run.send('\x01\x01\r\x04');
  await run.expect('# ');
  run.send('od -An -tx1 /tmp/a\r');
  await run.expect(' 01 0a');
  run.send('poweroff\r');
  await ends(run, settings);
});

test('Ctrl-A x leaves', async (t) => {
  const run = atTerminal();
  t.after(() => run.kill());
  const settings = await run.expect('BEFORE\r\n');
  await run.shell();
  run.send('\x01x');
  await ends(run, settings);
});
