import { Command, InvalidArgumentError, Option } from 'commander';
import { ask } from '../control/client.ts';
import { socketOf } from '../control/registry.ts';
import { DiskError } from '../disk/error.ts';
import { closeLayers, type DiskFormat, openLayers } from '../disk/layers.ts';
import { resizeImage } from '../disk/qcow2/resize.ts';
import { RawImage } from '../disk/raw-image.ts';
import { describeSize, formatOption, size, withImage, withPath } from './disk-work.ts';
import { asIs, once } from './options.ts';

/** A new size, or by how much to change the present one. */
interface Change {
  readonly sign: '' | '+' | '-';
  readonly bytes: number;
}

interface ResizeOptions {
  readonly format?: DiskFormat;
  readonly shrink?: boolean;
  readonly machine?: string;
}

function change(text: string): Change {
  const sign = /^[+-]?/.exec(text)![0] as Change['sign'];
  try {
    return { sign, bytes: size(text.slice(sign.length)) };
  } catch {
    throw new InvalidArgumentError('it takes a size, or +SIZE, or -SIZE (after --)');
  }
}

/** `vivarium disk resize`. */
export function diskResizeCommand(): Command {
  return new Command('resize')
    .description('Make a disk larger or smaller: that of an image, or one of a machine that runs')
    .argument('<PATH>', 'path of the image; with --machine: the name of a disk, such as vda')
    .argument('<SIZE>', 'the new size, or +SIZE to add', change)
    .addOption(formatOption())
    .addOption(new Option('--shrink', 'make it smaller, and lose what is behind the new end'))
    .addOption(
      new Option('--machine <MACHINE>', 'of a machine that runs: its control socket, or its number').argParser(
        once(asIs),
      ),
    )
    .action((path: string, by: Change, options: ResizeOptions) =>
      options.machine === undefined
        ? resizeFile(path, by, options)
        : resizeInMachine(socketOf(options.machine), path, by, options),
    );
}

async function resizeFile(path: string, by: Change, options: ResizeOptions): Promise<void> {
  if ((options.format ?? (await formatOf(path))) === 'qcow2') {
    await withImage(path, { writable: true }, (image) => resizeImage(image, newSize(path, image.size, by, options)));
    return;
  }
  await withPath(path, () => {
    const layers = openLayers(path, { format: 'raw', writable: true });
    try {
      const image = new RawImage(layers[0]!.fd, path);
      image.resize(newSize(path, image.size, by, options));
      image.flush();
    } finally {
      closeLayers(layers);
    }
  });
}

/** What an image looks like. Throws DiskError. */
function formatOf(path: string): Promise<DiskFormat> {
  return withPath(path, () => {
    const layers = openLayers(path, { format: undefined, writable: false, alone: true });
    closeLayers(layers);
    return layers[0]!.format;
  });
}

/** Throws DiskError where the change makes the disk smaller, and nobody has allowed that. */
function newSize(disk: string, present: number, { sign, bytes }: Change, { shrink }: ResizeOptions): number {
  const wanted = sign === '' ? bytes : present + (sign === '+' ? bytes : -bytes);
  if (wanted < 0) throw new DiskError(`${disk}: the disk has only ${describeSize(present)}`);
  if (wanted < present && !shrink) {
    throw new DiskError(`${disk}: the disk has ${describeSize(present)}: --shrink makes it smaller, and loses data`);
  }
  return wanted;
}

async function resizeInMachine(socket: string, name: string, by: Change, options: ResizeOptions): Promise<void> {
  const path = `/disks/${encodeURIComponent(name)}`;
  const { size: present } = (await ask(socket, 'GET', path)) as { readonly size: number };
  await ask(socket, 'PATCH', path, { size: newSize(name, present, by, options) });
}
