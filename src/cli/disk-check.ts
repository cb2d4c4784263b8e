import { Command, Option } from 'commander';
import { ImageFile } from '../disk/image-file.ts';
import { closeLayers, openLayers } from '../disk/layers.ts';
import { type CheckResult, checkImage } from '../disk/qcow2/check.ts';
import { readHeader } from '../disk/qcow2/open.ts';
import { repairImage } from '../disk/qcow2/repair.ts';
import { withPath, withProgress } from './disk-work.ts';

/** Exit statuses, as qemu-img check has them. */
const CORRUPT_STATUS = 2;
const LEAKS_STATUS = 3;

const HELP = `
Exit status: 0 the image is sound (now); 1 it could not be checked; 2 it is corrupt; 3 it has leaked clusters, which only take up space.`;

/** `vivarium disk check`. `done` gets the exit status. */
export function diskCheckCommand(done: (status: number) => void): Command {
  return new Command('check')
    .description('Check the tables of a qcow2 image')
    .argument('<PATH>', 'path of the image')
    .addOption(new Option('--repair', 'mend what can be mended'))
    .addHelpText('after', HELP)
    .action(async (path: string, { repair }: { readonly repair?: boolean }) => {
      const result = await withPath(path, () => check(path, repair ?? false));
      done(result.corruptions > 0 ? CORRUPT_STATUS : result.leaks > 0 ? LEAKS_STATUS : 0);
    });
}

/** Checks and prints; returns what is wrong in the end. Throws DiskError, OsError. */
async function check(path: string, repair: boolean): Promise<CheckResult> {
  const layers = openLayers(path, { format: 'qcow2', writable: repair, alone: true });
  try {
    const file = new ImageFile(layers[0]!.fd, path);
    const header = readHeader(file);
    if (!repair) {
      const result = await withProgress('Checking', ({ progress }) => checkImage(file, header, progress));
      print(result);
      return result;
    }
    const { found, left } = await withProgress('Checking and repairing', ({ progress }) =>
      repairImage(file, header, progress),
    );
    print(found);
    const mended = found.corruptions + found.leaks - left.corruptions - left.leaks;
    if (mended > 0) process.stdout.write(`repaired: ${mended}\n`);
    return left;
  } finally {
    closeLayers(layers);
  }
}

function print(result: CheckResult): void {
  const { leaks, corruptions, messages, allocated, compressed } = result;
  const more = leaks + corruptions - messages.length;
  for (const message of messages) process.stdout.write(`${message}\n`);
  if (more > 0) process.stdout.write(`and ${more} more\n`);
  process.stdout.write(
    leaks + corruptions === 0
      ? `the image is sound: ${allocated} clusters of data, ${compressed} of them compressed\n`
      : `corruptions: ${corruptions}, leaked clusters: ${leaks}\n`,
  );
}
