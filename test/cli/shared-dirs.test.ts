import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseMount, parseSharedDirectory, sharedDirectories } from '../../src/cli/shared-dirs.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-shared-dirs-'));
const file = join(folder, 'file');
writeFileSync(file, '');
after(() => rmSync(folder, { recursive: true, force: true }));

test('--shared-dir: a path, a tag, and options', () => {
  const plain = { path: folder, tag: 'work', readOnly: false, uid: null, gid: null };
  assert.deepEqual(parseSharedDirectory(`${folder}:work`), { ...plain, protocol: { type: 'p9' } });
  assert.deepEqual(parseSharedDirectory(`${folder}:work,type=fs`), {
    ...plain,
    protocol: { type: 'fs', cache: 'auto' },
  });
  assert.deepEqual(parseSharedDirectory(`${folder}:work,ro,uid=7,gid=8,cache=never,type=fs`), {
    ...{ path: folder, tag: 'work', readOnly: true, uid: 7, gid: 8 },
    protocol: { type: 'fs', cache: 'never' },
  });
  assert.equal(parseSharedDirectory(`${folder}:a:b c`).tag, 'a:b c');
});

test('--shared-dir: what is wrong is said', () => {
  for (const [text, pattern] of [
    ['', /path of a directory/],
    [folder, /path of a directory, a colon and a tag/],
    [`${folder}:`, /1 to 1024 bytes/],
    [`${folder}:${'x'.repeat(37)},type=fs`, /1 to 36 bytes with type=fs/],
    [`${folder}/none:x`, /there is no directory .*none: make it/],
    [`${file}:x`, /file is no directory/],
    [`${file}/below:x`, /there is no directory/],
    [`${folder}:x,speed=9`, /speed=9: the options are/],
    [`${folder}:x,ro=1`, /ro=1: the options are/],
    [`${folder}:x,uid`, /uid: the options are/],
    [`${folder}:x,ro,ro`, /ro is there twice/],
    [`${folder}:x,type=nfs`, /one of p9, fs/],
    [`${folder}:x,cache=auto`, /cache is an option of type=fs/],
    [`${folder}:x,type=fs,cache=some`, /one of auto, always, never/],
    [`${folder}:x,uid=4294967295`, /from 0 to 4294967294/],
    [`${folder}:x,gid=-1`, /from 0 to/],
  ] as const) {
    assert.throws(() => parseSharedDirectory(text), pattern, text);
  }
});

test('--mount', () => {
  assert.deepEqual(parseMount(`${folder}:/mnt/a-b_c.d`), { path: folder, target: '/mnt/a-b_c.d', readOnly: false });
  assert.equal(parseMount(`${folder}:/mnt:ro`).readOnly, true);
  for (const text of [
    folder,
    `${folder}:/a:rw`,
    `${folder}:/a:ro:x`,
    `${folder}:a`,
    `${folder}:/`,
    `${folder}:/a b`,
    `${folder}:/a"`,
    `${folder}:/a/`,
  ]) {
    assert.throws(() => parseMount(text), /it takes/, text);
  }
});

test('mounts are shared directories with a parameter for the guest, after the others', () => {
  const shared = [parseSharedDirectory(`${folder}:x`)];
  const { directories, params } = sharedDirectories(shared, [
    parseMount(`${folder}:/a`),
    parseMount(`${folder}:/b:ro`),
  ]);
  assert.deepEqual(
    directories.map(({ tag }) => tag),
    ['x', 'mount0', 'mount1'],
  );
  assert.deepEqual(params, ['vivarium.mount=mount0:/a', 'vivarium.mount=mount1:/b:ro']);
  assert.equal(directories[1]?.uid, process.geteuid?.() === 0 ? null : 0);
  assert.throws(() => sharedDirectories([...shared, ...shared], []), /two shared directories have the tag x/);
});
