// Debian's git in a guest, on a repository in a shared directory: cloned out of it, into it and within it, changed, pushed and packed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CpioEntry } from '../../src/guest/cpio.ts';
import { defaultGuest, extendGenericInitrd, extendInitrd } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

const SOURCES = fileURLToPath(new URL('../../src/fs', import.meta.url));
const COMMITS = 20;
/** Of both sides: nobody's own settings count, and whose files they are is not git's business here. */
const SETTINGS = `[user]
name = Tester
email = tester@example.org
[safe]
directory = *
[init]
defaultBranch = main
templateDir =
[gc]
auto = 0
`;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-git-'));
const settings = join(folder, 'settings');
after(() => rmSync(folder, { recursive: true, force: true }));

before(() => writeFileSync(settings, SETTINGS));

/** Runs git on the host; returns what it printed. */
function git(at: string, ...args: readonly string[]): string {
  const env = { ...process.env, GIT_CONFIG_GLOBAL: settings, GIT_CONFIG_NOSYSTEM: '1' };
  return execFileSync('git', ['-C', at, ...args], { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The host's git for the guest: the program, the names that it calls itself by, and its libraries. */
function gitFiles(): CpioEntry[] {
  const program = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(?:=>|^)\s*(\/\S+)/gm);
  const file = (name: string, path: string): CpioEntry => ({
    type: 'file',
    name: name.slice(1),
    mode: 0o755,
    data: readFileSync(path),
  });
  return [
    file('/usr/bin/git', program),
    ...['upload-pack', 'receive-pack'].map(
      (name): CpioEntry => ({ type: 'symlink', name: `usr/bin/git-${name}`, target: 'git' }),
    ),
    ...[...libraries].map(([, path]) => file(path as string, path as string)),
    { type: 'file', name: 'root/.gitconfig', mode: 0o644, data: Buffer.from(SETTINGS) },
  ];
}

/** A bare repository of some commits, in a folder of its own, which is returned. */
function repository(name: string): string {
  const path = join(folder, name);
  const work = join(folder, `${name}-work`);
  mkdirSync(path);
  mkdirSync(work);
  git(work, 'init', '-q');
  cpSync(SOURCES, join(work, 'sources'), { recursive: true });
  for (let i = 0; i < COMMITS; i++) {
    writeFileSync(join(work, `file-${i % 7}`), `${i}\n`.repeat(1000 * (i + 1)));
    git(work, 'add', '.');
    git(work, 'commit', '-q', '-m', `change ${i}`);
  }
  git(path, 'clone', '-q', '--bare', work, 'project.git');
  return path;
}

async function exercise(guest: RunningGuest, path: string): Promise<void> {
  /** Git says nothing when all is well, and its status is 0. */
  const run = async (...commands: readonly string[]): Promise<void> => {
    for (const command of commands) assert.equal(await guest.command(`${command} || echo failed`), '', command);
  };
  const head = git(join(path, 'project.git'), 'rev-parse', 'main');
  await run(
    'export HOME=/root GIT_PROGRESS_DELAY=1000 && cd /mnt/work',
    // By git's protocol, by links to the same files, and by copies of them.
    'git clone -q file:///mnt/work/project.git clone',
    'git clone -q project.git linked',
    'git clone -q project.git /tmp/out',
  );
  for (const clone of ['clone', 'linked', '/tmp/out']) {
    await run(`cd ${clone} && git status --porcelain && git fsck --full --strict --no-progress && cd /mnt/work`);
    assert.equal(await guest.command(`git -C ${clone} rev-parse HEAD`), head);
  }
  for (const clone of ['clone', 'linked']) {
    assert.equal(git(join(path, clone), 'status', '--porcelain'), '');
    assert.equal(git(join(path, clone), 'fsck', '--full', '--strict', '--no-progress'), '');
  }
  // The objects are the same files.
  await run('find linked/.git/objects -type f -links 1');

  await run(
    'cd clone && git mv sources moved && git rm -q file-0 && echo by the guest >new && git add new',
    'git commit -q -m guest && git checkout -q -b side HEAD~3 && git checkout -q main && git branch -q -D side',
    'git push -q',
    'cd ../project.git && git gc -q --aggressive --prune=now',
    'cd ../linked && git pull -q',
  );
  const project = join(path, 'project.git');
  const pushed = git(project, 'rev-parse', 'main');
  assert.notEqual(pushed, head);
  assert.equal(git(project, 'fsck', '--full', '--strict', '--no-progress'), '');
  const linked = join(path, 'linked');
  assert.equal(git(linked, 'rev-parse', 'HEAD'), pushed);
  assert.equal(git(linked, 'status', '--porcelain'), '');
  assert.equal(git(linked, 'show', 'HEAD:new'), 'by the guest\n');
  assert.deepEqual(guest.complaints, []);
}

/** Boots, and mounts the directory of the tag "work" by `mount`. */
async function mounted(t: TestContext, mount: string, ...args: readonly string[]): Promise<RunningGuest> {
  const guest = RunningGuest.run('-m', '320', '-p', 'quiet', '--net', 'none', ...args);
  t.after(() => guest.kill());
  await guest.shell();
  assert.equal(await guest.command(`mkdir /mnt/work; mount ${mount} work /mnt/work`), '');
  return guest;
}

test('git on virtio-fs', async (t) => {
  const path = repository('fs');
  const initrd = join(folder, 'initrd-fs');
  const guest = await defaultGuest();
  extendInitrd(guest, gitFiles(), initrd);
  const share = `${path}:work,type=fs`;
  await exercise(await mounted(t, '-t virtiofs', '--shared-dir', share, '--initrd', initrd, guest.kernel), path);
});

// As Linux's client mounts it when nothing else is said: without a cache.
test('git on 9P', async (t) => {
  const path = repository('p9');
  const initrd = join(folder, 'initrd-p9');
  const image = await extendGenericInitrd(['virtio_pci', '9p', '9pnet_virtio'], gitFiles(), initrd);
  const mount = '-t 9p -o trans=virtio,version=9p2000.L,msize=524288';
  await exercise(await mounted(t, mount, '--shared-dir', `${path}:work`, '--initrd', initrd, image), path);
});
