import { Command } from 'commander';
import { diskCheckCommand } from './disk-check.ts';
import { diskCommitCommand } from './disk-commit.ts';
import { diskConvertCommand } from './disk-convert.ts';
import { diskCreateCommand } from './disk-create.ts';
import { diskInfoCommand } from './disk-info.ts';
import { diskResizeCommand } from './disk-resize.ts';
import { diskSnapshotCommand } from './disk-snapshot.ts';

/** `vivarium disk`. `done` gets the exit status. */
export function diskCommand(done: (status: number) => void): Command {
  return new Command('disk')
    .description('Disk images: raw and qcow2')
    .helpCommand(false)
    .addCommand(diskCreateCommand())
    .addCommand(diskInfoCommand())
    .addCommand(diskCheckCommand(done))
    .addCommand(diskConvertCommand())
    .addCommand(diskResizeCommand())
    .addCommand(diskSnapshotCommand())
    .addCommand(diskCommitCommand());
}
