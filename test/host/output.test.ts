import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

const output = new URL('../../src/host/output.ts', import.meta.url).href;

/** Runs code that writes to standard output, a pipe made non-blocking. */
function writer(code: string) {
  const source = `
    import { writeAll } from ${JSON.stringify(output)};
    // A pipe as standard input or output of another Node may be non-blocking: make it so.
    process.stdout._handle.setBlocking(false);
    ${code}
  `;
  return spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
}

test('all bytes arrive through a full non-blocking pipe', async () => {
  const child = writer(`writeAll(1, new Uint8Array(1_000_000).fill(65));`);
  let bytes = 0;
  // Slow at first: the pipe fills.
  await new Promise((resolve) => setTimeout(resolve, 300));
  for await (const chunk of child.stdout) bytes += chunk.length;
  assert.equal(bytes, 1_000_000);
});

test('a writer may give up', async () => {
  const child = writer(`
    let asked = 0;
    writeAll(1, new Uint8Array(10_000_000), () => ++asked < 3);
    process.exit(asked);
  `);
  // Nobody reads.
  const [status] = await once(child, 'exit');
  assert.equal(status, 3);
});

test('a closed pipe is EPIPE, a full device ENOSPC', () => {
  const run = (redirect: string, code: string) => {
    const source = `
      import { writeAll } from ${JSON.stringify(output)};
      try { for (;;) writeAll(1, new Uint8Array(4096)); } catch (error) { process.exit(error.code === '${code}' ? 42 : 1); }
    `;
    const script = `"$0" --input-type=module -e "$1" ${redirect}`;
    return spawnSync('bash', ['-c', script, process.execPath, source]).status;
  };
  assert.equal(run('| true; exit "${PIPESTATUS[0]}"', 'EPIPE'), 42);
  assert.equal(run('> /dev/full', 'ENOSPC'), 42);
});
