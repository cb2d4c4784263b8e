import { Command } from 'commander';
import { createQcow2 } from '../disk/qcow2/create.ts';
import { makeFile, size } from './disk-work.ts';

/** `vivarium create_qcow2`: crosvm's name for making an empty image. */
export function createQcow2Command(): Command {
  return new Command('create_qcow2')
    .description('Make an empty qcow2 image (as disk create)')
    .argument('<PATH>', 'where to make it; nothing may be there')
    .argument('<SIZE>', 'size of the disk', size)
    .action((path: string, bytes: number) => makeFile(path, (file) => createQcow2(file, { size: bytes })));
}
