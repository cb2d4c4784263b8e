// `vivarium run --rootfs` to its login, and what is promised there. Making the disk takes minutes and 2 GB: only where VIVARIUM_ROOTFS is set.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepareRootfs } from '../../src/guest/index.ts';
import { RunningGuest } from './running-guest.ts';

/** A boot of systemd on a host whose processors are all busy, milliseconds. */
const PATIENCE = 400_000;

test('the root disk boots to a login of root, with apt and a compiler', async (t) => {
  if (process.env['VIVARIUM_ROOTFS'] === undefined)
    return t.skip('with VIVARIUM_ROOTFS=1 the root disk is made and booted');
  await prepareRootfs({ progress: () => {} });
  const guest = RunningGuest.run('--rootfs', '-p', 'quiet');
  t.after(() => guest.kill());
  await guest.shell(PATIENCE);
  // systemd's own word: every unit has started.
  assert.equal(await guest.command('systemctl is-system-running --wait'), 'running\n');
  assert.equal(await guest.command('id -un; stat -f -c %T /; ps -o comm= 1'), 'root\next2/ext3\nsystemd\n');
  const source = 'int main(void) { return puts("compiled") < 0; }';
  assert.equal(await guest.command(`echo '${source}' >a.c && gcc -w -o a a.c && ./a`), 'compiled\n');
  assert.match(await guest.command('apt-cache policy gcc'), /^gcc:\n {2}Installed: \d/);
  // Services of packages that are installed start: nothing of the disk's making forbids it.
  assert.equal(await guest.command('ls /usr/sbin/policy-rc.d /sbin/start-stop-daemon.REAL 2>/dev/null'), '');
  assert.deepEqual(guest.complaints, []);
  guest.send('poweroff\n');
  assert.deepEqual(await guest.end(), { status: 0, signal: null });
});
