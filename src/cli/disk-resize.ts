import { Command, InvalidArgumentError, Option } from 'commander';
import { DiskError } from '../disk/error.ts';
import { resizeImage } from '../disk/qcow2/resize.ts';
import { describeSize, size, withImage } from './disk-work.ts';

/** A new size, or by how much to change the present one. */
interface Change {
  readonly sign: '' | '+' | '-';
  readonly bytes: number;
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
    .description('Make the disk in a qcow2 image larger or smaller')
    .argument('<PATH>', 'path of the image')
    .argument('<SIZE>', 'the new size, or +SIZE to add', change)
    .addOption(new Option('--shrink', 'make it smaller, and lose what is behind the new end'))
    .action((path: string, { sign, bytes }: Change, { shrink }: { readonly shrink?: boolean }) =>
      withImage(path, { writable: true }, (image) => {
        const wanted = sign === '' ? bytes : image.size + (sign === '+' ? bytes : -bytes);
        if (wanted < 0) throw new DiskError(`${path}: the disk has only ${describeSize(image.size)}`);
        if (wanted < image.size && !shrink) {
          throw new DiskError(
            `${path}: the disk has ${describeSize(image.size)}: --shrink makes it smaller, and loses data`,
          );
        }
        resizeImage(image, wanted);
      }),
    );
}
