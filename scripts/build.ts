// Builds what is made from sources before the first run: the WebAssembly modules in build/. Files newer than all of their
// sources are left as they are.
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Modification time of the newest file at or below `path`, in milliseconds; 0 if there is none. */
const newest = (path: string): number => {
  const status = statSync(`${root}${path}`, { throwIfNoEntry: false });
  if (status === undefined) return 0;
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(0, ...readdirSync(`${root}${path}`).map((name) => newest(`${path}/${name}`)));
};

const CPU = ['src/cpu', 'src/wasm'];
const targets = [
  { output: 'build/helpers.wasm', script: 'scripts/build-helpers.ts', sources: CPU },
  { output: 'build/interpreter.wasm', script: 'scripts/build-cpu.ts', sources: CPU },
  {
    output: 'build/bundles.sources',
    script: 'scripts/build-bundles.ts',
    sources: ['src', 'scripts/bundle.ts'],
  },
  { output: 'build/lz4.wasm', script: 'scripts/build-lz4.ts', sources: ['src/arch/x86_64/kernel/assembly'] },
];
const always = ['package-lock.json', 'scripts/assemblyscript.ts'];

for (const { output, script, sources } of targets) {
  if (newest(output) > Math.max(...[...sources, ...always, script].map(newest))) continue;
  process.stdout.write(`Building ${output}\n`);
  const { status, error } = spawnSync(process.execPath, [script], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    process.stderr.write(`${script} failed${error === undefined ? '' : `: ${error.message}`}\n`);
    process.exit(1);
  }
}
