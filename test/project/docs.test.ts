// The pages that explain the project name files and folders: each of them exists.
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Folders of the project: what begins with one of them is a path of the project. */
const FOLDERS = /^(?:bin|src|test|bench|docs|examples|scripts|\.ci)\//;

/** Files of the root by their kind: `package.json`, `README.md`, but not `stdin` or `vmlinux.elf`. */
const ROOT_FILE = /^[\w.-]+\.(?:md|json)$|^LICENSE$/;

/** Paths of the project that a page has in backticks. Words with a space are commands, and blocks of code are examples. */
function pathsOf(page: string): string[] {
  const prose = page.replace(/^```[\s\S]*?^```/gm, '');
  const words = [...prose.matchAll(/`([^`\s]+)`/g)].map((match) => match[1]!);
  return words.filter((word) => FOLDERS.test(word) || ROOT_FILE.test(word));
}

/** Whether a path exists; `*` in it stands for any name, `{a,b}` for each of those. */
const exists = (path: string): boolean =>
  /[*{]/.test(path) ? globSync(path, { cwd: ROOT }).length > 0 : existsSync(join(ROOT, path));

test('paths are told from other words', () => {
  const page =
    'A `src/a.ts`, `npm ci src/b.ts`, `src/` and `README.md`, `/dev/kvm`\n```sh\nls `src/c.ts`\n```\n`src/d/*.ts`';
  assert.deepEqual(pathsOf(page), ['src/a.ts', 'src/', 'README.md', 'src/d/*.ts']);
  assert.ok(exists('test/project/docs.test.ts') && exists('test/project/*.ts'));
  assert.ok(!exists('test/project/absent.ts') && !exists('test/project/*.absent'));
});

for (const name of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md']) {
  const file = join(ROOT, name);
  test(`the paths in ${name} exist`, { skip: !existsSync(file) && 'the page is not there' }, () => {
    const absent = pathsOf(readFileSync(file, 'utf8')).filter((path) => !exists(path));
    assert.deepEqual(absent, []);
  });
}
