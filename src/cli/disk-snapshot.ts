import { Command, Option } from 'commander';
import { DiskError } from '../disk/error.ts';
import type { Qcow2Image } from '../disk/qcow2/image.ts';
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from '../disk/qcow2/snapshots.ts';
import { describeSize, withImage } from './disk-work.ts';
import { asIs, once } from './options.ts';

interface SnapshotOptions {
  readonly create?: string;
  readonly apply?: string;
  readonly delete?: string;
}

/** `vivarium disk snapshot`. */
export function diskSnapshotCommand(): Command {
  return new Command('snapshot')
    .description('List, make, apply or delete the snapshots in a qcow2 image')
    .argument('<PATH>', 'path of the image')
    .addOption(new Option('-c, --create <NAME>', 'keep the present content under this name').argParser(once(asIs)))
    .addOption(
      new Option('-a, --apply <NAME>', 'go back to this content; the present one is lost').argParser(once(asIs)),
    )
    .addOption(new Option('-d, --delete <NAME>', 'forget this content').argParser(once(asIs)))
    .action(async (path: string, options: SnapshotOptions) => {
      const { create, apply, delete: gone } = options;
      if (Object.keys(options).length > 1) throw new DiskError('--create, --apply, --delete: give one of them');
      const writable = Object.keys(options).length > 0;
      await withImage(path, { writable }, (image) => {
        if (create !== undefined) createSnapshot(image, create, Date.now());
        else if (apply !== undefined) applySnapshot(image, apply);
        else if (gone !== undefined) deleteSnapshot(image, gone);
        else process.stdout.write(list(image));
      });
    });
}

function list(image: Qcow2Image): string {
  const rows = listSnapshots(image).map(({ id, name, date, diskSize, stateSize }) => [
    id,
    name,
    new Date(date).toISOString().slice(0, 19).replace('T', ' '),
    describeSize(diskSize),
    stateSize === 0n ? '-' : describeSize(Number(stateSize)),
  ]);
  if (rows.length === 0) return 'no snapshots\n';
  const table = [['id', 'name', 'made (UTC)', 'disk', 'machine'], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  // Names may hold anything: nothing in them steers the terminal.
  const text = table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
  return text.map((line) => `${line.replace(/[\x00-\x1f\x7f-\x9f]/g, '?')}\n`).join('');
}
