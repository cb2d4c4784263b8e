import { Command, Option } from 'commander';
import { copyDisk, rawTarget } from '../disk/convert.ts';
import { backingOf, DISK_FORMATS, type DiskFormat, openLayers } from '../disk/layers.ts';
import { createQcow2 } from '../disk/qcow2/create.ts';
import { openQcow2 } from '../disk/qcow2/open.ts';
import { addNewImageOptions, type NewImageOptions, newImage, refuseForRaw } from './disk-create.ts';
import { makeFile, withPath, withProgress } from './disk-work.ts';
import { once, oneOf } from './options.ts';

interface DiskConvertOptions extends NewImageOptions {
  readonly format?: DiskFormat;
  readonly to: DiskFormat;
}

/** `vivarium disk convert`. */
export function diskConvertCommand(): Command {
  const command = new Command('convert')
    .description('Copy a disk into an image of another format, with all that lies under it')
    .argument('<SOURCE>', 'path of the image to read')
    .argument('<TARGET>', 'where to make the copy; nothing may be there')
    .addOption(
      new Option('-f, --format <NAME>', "the source's format (default: what it looks like)").argParser(
        once(oneOf(DISK_FORMATS)),
      ),
    )
    .addOption(
      new Option('-t, --to <NAME>', "the copy's format").default('qcow2').argParser(once(oneOf(DISK_FORMATS))),
    );
  return addNewImageOptions(command).action(convert);
}

async function convert(from: string, to: string, options: DiskConvertOptions): Promise<void> {
  const { format, to: target, ...rest } = options;
  refuseForRaw(target, rest);
  const source = await withPath(from, () => backingOf(openLayers(from, { format, writable: false }))!);
  try {
    await makeFile(to, (file) =>
      withProgress('Copying', async (work) => {
        if (target === 'raw') {
          file.truncate(source.size);
          await copyDisk(source, rawTarget(file), work);
          return;
        }
        createQcow2(file, { size: source.size, ...newImage(rest) });
        const image = openQcow2(file.fd, to, true, undefined);
        await copyDisk(source, image, work);
        image.close();
      }),
    );
  } finally {
    source.close();
  }
}
