// `npm test [-- FILE...]`: builds what is out of date, sees to the packages that the tests need, and runs them.
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A single test that takes longer has failed, in milliseconds. */
const TEST_TIMEOUT = 300_000;

/** Exit status of `command`, which shares this terminal; 127 if it cannot be started. */
const run = (command: string, ...args: string[]): number =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
    .status ?? 127;

const isInstalled = (name: string): boolean => {
  const { stdout } = spawnSync('dpkg-query', ['-W', '-f', '${db:Status-Status}', name], { encoding: 'utf8' });
  return stdout === 'installed';
};

/** Installs what test/packages.txt names and this machine lacks. Returns the names that are still missing. */
const installPackages = (): string[] => {
  const wanted = readFileSync(`${root}test/packages.txt`, 'utf8')
    .split('\n')
    .filter((line) => /^[a-z0-9]/.test(line));
  const missing = wanted.filter((name) => !isInstalled(name));
  if (missing.length === 0 || process.getuid?.() !== 0) return missing;
  run('apt-get', 'update', '-qq');
  run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing);
  return missing.filter((name) => !isInstalled(name));
};

if (run(process.execPath, 'scripts/build.ts') !== 0) process.exit(1);

const missing = installPackages();
if (missing.length > 0) {
  process.stderr.write(`npm test: missing packages: run apt-get install ${missing.join(' ')} as root\n`);
  process.exit(1);
}

const files = process.argv.length > 2 ? process.argv.slice(2) : globSync('test/**/*.test.ts', { cwd: root }).sort();
// One test that hangs, or leaves something open, must not keep the others from telling.
process.exit(run(process.execPath, '--test', `--test-timeout=${TEST_TIMEOUT}`, '--test-force-exit', ...files));
