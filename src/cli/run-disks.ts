// The options of `run` that give the guest disks.

import { type Command, InvalidArgumentError, Option } from 'commander';
import type { DiskFormat } from '../disk/layers.ts';
import { ID_SIZE } from '../virtio/block/constants.ts';
import type { DiskConfig } from '../virtio/block/model.ts';

/** Letters of disks: vda to vdz. */
const MAX_DISKS = 26;

interface DiskOption {
  readonly flags: string;
  readonly description: string;
  readonly format: DiskFormat;
  readonly writable: boolean;
  readonly root?: boolean;
}

const OPTIONS: readonly DiskOption[] = [
  {
    flags: '-r, --root <PATH>',
    description: 'raw disk, read-only, that the kernel is told to boot from',
    format: 'raw',
    writable: false,
    root: true,
  },
  { flags: '-d, --disk <PATH>', description: 'raw disk, read-only', format: 'raw', writable: false },
  { flags: '--rwdisk <PATH>', description: 'raw disk', format: 'raw', writable: true },
  { flags: '--qcow <PATH>', description: 'qcow2 disk, read-only', format: 'qcow2', writable: false },
  { flags: '--rwqcow <PATH>', description: 'qcow2 disk', format: 'qcow2', writable: true },
];

/** Adds the options. `disks` gets the disks, `param` items for the kernel's command line. */
export function addDiskOptions(command: Command, disks: DiskConfig[], param: (text: string) => void): Command {
  let hasRoot = false;
  for (const { flags, description, format, writable, root = false } of OPTIONS) {
    const parse = (text: string): true => {
      if (root && hasRoot) throw new InvalidArgumentError('it may be given once only');
      if (disks.length === MAX_DISKS) throw new InvalidArgumentError(`there are ${MAX_DISKS} disks already`);
      if (root) {
        hasRoot = true;
        param(`root=${deviceOf(disks.length)} ro`);
      }
      disks.push(parseDisk(text, format, writable));
      return true;
    };
    command.addOption(new Option(flags, description).argParser(parse));
  }
  return command;
}

/** The guest's name for a disk, by its place. */
function deviceOf(index: number): string {
  return `/dev/vd${String.fromCharCode('a'.charCodeAt(0) + index)}`;
}

/**
 * A disk to boot from after `disks` others, and the item for the kernel's command line. The image stays as it is: several machines
 * can share it.
 */
export function systemDisk(path: string, disks: number): { readonly disk: DiskConfig; readonly param: string } {
  if (disks === MAX_DISKS) throw new Error(`--rootfs: there are ${MAX_DISKS} disks already`);
  return { disk: { path, format: 'qcow2', writable: false, overlay: true }, param: `root=${deviceOf(disks)} rw` };
}

/** `PATH[,overlay][,direct][,serial=ID]`: a comma in the path that none of these follows is the path's. */
function parseDisk(text: string, format: DiskFormat, writable: boolean): DiskConfig {
  let path = text;
  let overlay = false;
  let direct = false;
  let serial: string | undefined;
  for (;;) {
    const match = /^(.*),(overlay|direct|serial=([^,]*))$/s.exec(path);
    if (match === null) break;
    const [, rest = '', word, value = ''] = match;
    path = rest;
    if (word === 'overlay') overlay = true;
    else if (word === 'direct') direct = true;
    else serial = value;
  }
  if (path === '') throw new InvalidArgumentError('it takes the path of an image');
  if (overlay && writable)
    throw new InvalidArgumentError('overlay is for disks whose image stays as it is: use it with --disk or --qcow');
  if (direct && (overlay || format !== 'raw'))
    throw new InvalidArgumentError('direct is for raw images without overlay');
  if (serial !== undefined && !new RegExp(`^[!-~]{1,${ID_SIZE}}$`).test(serial)) {
    throw new InvalidArgumentError(`a serial number is 1 to ${ID_SIZE} characters of ASCII`);
  }
  return { path, format, writable, overlay, direct, serial };
}
