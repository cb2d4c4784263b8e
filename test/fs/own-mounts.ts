/** Scripts that mount something: in a mount namespace of their own, which any user may have where user namespaces are allowed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const UNSHARE = ['--user', '--map-root-user', '--mount'];

/** Why there are none here; false if there are. */
export const noNamespaces = spawnSync('unshare', [...UNSHARE, 'true']).status !== 0 && 'no user namespaces here';

/** Runs a script of this folder as root of a namespace; it has to end well. */
export function runWithMounts(script: string, ...args: readonly string[]): void {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const { status, stderr } = spawnSync('unshare', [...UNSHARE, process.execPath, path, ...args], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}
