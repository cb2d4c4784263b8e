// The root disk, with stand-ins for apt and mmdebstrap: the latter's installs one file, and runs the hook that makes a file system.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GuestError } from '../../src/guest/error.ts';
import { prepareRootfs } from '../../src/guest/rootfs.ts';

const APT = `
case "$*" in
  *indextargets*) printf 'file:/a stable-security main\\nfile:/b stable main\\nfile:/b stable contrib\\n' ;;
  *install*)
    for item; do case $item in Dir::Cache::archives=*) folder=\${item#*=} ;; esac; done
    [ -e "$folder/a.deb" ] || echo dlstatus:1:50:a >&3
    echo a >"$folder/a.deb" ;;
esac`;

const MMDEBSTRAP = `
[ "$1" = --version ] && exit
folder=$(mktemp -d)
for item; do
  case $item in
    --customize-hook=*mke2fs*) hook=\${item#*=} ;;
    --setup-hook=sync-in*) eval "set -- $item \\"\\$@\\""; cp "$2/a.deb" "$folder/packages" ;;
  esac
done
echo 'I: installing essential packages...' >&2
for item; do echo "$item"; done | grep -A9 -x /dev/null >"$folder/sources"
sh -c "$hook" exec "$folder" || { echo "E: the hook failed" >&2; exit 1; }
rm -r "$folder"`;

function place(t: TestContext, scripts: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "vivarium-rootfs's-"));
  const path = process.env.PATH;
  t.after(() => {
    process.env.PATH = path;
    rmSync(folder, { recursive: true });
  });
  mkdirSync(join(folder, 'bin'));
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, 'bin', name), 0o755);
  }
  process.env.PATH = `${join(folder, 'bin')}:${path}:/usr/sbin:/sbin`;
  return folder;
}

async function prepare(folder: string): Promise<{ readonly image: string; readonly steps: string[] }> {
  const steps: string[] = [];
  const progress = ({ step, fraction }: { step: string; fraction: number }): void => {
    assert.ok(fraction >= 0 && fraction <= 1);
    if (steps.at(-1) !== step) steps.push(step);
  };
  return { image: await prepareRootfs({ folder: join(folder, 'cache'), progress }), steps };
}

const run = (command: string, ...args: readonly string[]): string => execFileSync(command, args, { encoding: 'utf8' });

test('an image is made, once', async (t) => {
  const folder = place(t, { 'apt-get': APT, mmdebstrap: MMDEBSTRAP });
  const { image, steps } = await prepare(folder);
  assert.deepEqual(steps, ['lists', 'system-packages', 'system', 'image']);
  assert.deepEqual(readdirSync(join(folder, 'cache')).sort(), ['lock', image.split('/').at(-2)].sort());
  run('qemu-img', 'check', image);
  assert.ok(statSync(image).blocks * 512 < 100 * 2 ** 20);
  const raw = join(folder, 'raw');
  run('qemu-img', 'convert', image, raw);
  run('e2fsck', '-fn', raw);
  assert.equal(run('debugfs', '-R', 'cat /packages', raw), 'a\n');
  const key = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';
  assert.equal(
    run('debugfs', '-R', 'cat /sources', raw),
    `/dev/null\ndeb ${key} file:/a stable-security main\ndeb ${key} file:/b stable main\n`,
  );
  assert.deepEqual(await prepare(folder), { image, steps: [] });
});

test('what was downloaded stays when the installation fails; the reason is told in a line', async (t) => {
  const folder = place(t, {
    'apt-get': APT,
    mmdebstrap: `[ "$1" = --version ] || { echo 'E: no\nE: more' >&2; exit 1; }`,
  });
  await assert.rejects(prepare(folder), (error) => {
    assert.ok(error instanceof GuestError);
    assert.equal(error.message, 'mmdebstrap: no');
    return true;
  });
  assert.deepEqual(readdirSync(join(folder, 'cache')).sort(), ['lock', 'system-downloads']);
});

test('a host whose sources have no Debian is told', async (t) => {
  const folder = place(t, { 'apt-get': 'exit 0', mmdebstrap: 'exit 0' });
  await assert.rejects(prepare(folder), /^GuestError: apt: this system's sources have no Debian/);
});
