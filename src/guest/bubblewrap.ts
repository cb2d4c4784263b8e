/** bubblewrap for a host that has it not installed: Debian's package, unpacked in the cache folder. The host is not changed. */
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { cacheFolder } from '../host/cache-folder.ts';
import { Apt, type Package } from './apt.ts';
import { hasContent, requireSpace } from './disk.ts';
import { explainFailure, GuestError } from './error.ts';
import { lockFile } from './lock.ts';
import type { GuestOptions } from './prepare.ts';
import { runTool } from './tools.ts';

/**
 * Returns the folder that the command bwrap is in; fetches it if needed.
 * @throws GuestError with one line for people, or the signal's reason
 */
export async function prepareBubblewrap({ folder, progress, signal }: GuestOptions): Promise<string> {
  const parent = resolve(folder ?? cacheFolder());
  const finished = join(parent, 'bubblewrap');
  const commands = join(finished, 'usr/bin');
  const isThere = (): boolean => existsSync(join(commands, 'bwrap'));
  if (isThere()) return commands;
  let needed = 0;
  try {
    await mkdir(parent, { recursive: true });
    const lock = await lockFile(join(parent, 'lock'), () => progress({ step: 'wait', fraction: 0 }), signal);
    const building = join(parent, 'building-bubblewrap');
    try {
      if (isThere()) return commands;
      const tool = { lockFd: lock.fd, signal };
      await rm(building, { recursive: true, force: true });
      await mkdir(building);
      const makeRoom = (bytes: number): Promise<void> => {
        needed = bytes;
        return requireSpace(parent, bytes);
      };
      const lists = (fraction: number): void => progress({ step: 'lists', fraction });
      const found = await Apt.fetch({ folder: join(building, 'apt'), progress: lists, makeRoom, tool }, async (apt) => {
        const [bubblewrap] = await apt.describe(['bubblewrap']);
        const { file, size, installedSize, sha256 } = bubblewrap as Package;
        await makeRoom(size + installedSize);
        await apt.download([bubblewrap as Package], building, (fraction) => progress({ step: 'download', fraction }));
        if (!(await hasContent(join(building, file), size, sha256))) {
          throw new GuestError('a downloaded package differs from its description in the lists; try again');
        }
        return bubblewrap as Package;
      });
      await runTool('dpkg-deb', ['--extract', join(building, found.file), join(building, 'files')], tool);
      await rm(finished, { recursive: true, force: true });
      await rename(join(building, 'files'), finished);
    } finally {
      await rm(building, { recursive: true, force: true });
      lock.release();
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw explainFailure(error, 'bubblewrap', parent, needed);
  }
  return commands;
}
