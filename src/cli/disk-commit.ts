import { closeSync } from 'node:fs';
import { Command } from 'commander';
import { type CommitTarget, commitOverlay, rawTarget } from '../disk/convert.ts';
import { DiskError } from '../disk/error.ts';
import { ImageFile } from '../disk/image-file.ts';
import { backingLayer, openLayers } from '../disk/layers.ts';
import type { Qcow2Image } from '../disk/qcow2/image.ts';
import { resizeImage } from '../disk/qcow2/resize.ts';
import { type Work, withImage, withPath, withProgress } from './disk-work.ts';

/** `vivarium disk commit`. */
export function diskCommitCommand(): Command {
  return new Command('commit')
    .description('Write what a qcow2 image holds into the image under it, and empty it')
    .argument('<PATH>', 'path of the image')
    .action((path: string) =>
      withProgress('Writing into the image below', (work) =>
        withImage(path, { writable: true, alone: true }, (overlay) => commit(path, overlay, work)),
      ),
    );
}

async function commit(path: string, overlay: Qcow2Image, work: Work): Promise<void> {
  const below = backingLayer(path, overlay.header);
  if (below === undefined) throw new DiskError(`${path}: there is no image under it`);
  if (below.format === undefined) {
    throw new DiskError(
      `${path}: it does not say the format of ${below.path}: use qemu-img rebase -u -F FORMAT -b FILE`,
    );
  }
  if (below.format === 'qcow2') {
    await withImage(below.path, { writable: true }, (image) => commitOverlay(overlay, qcow2Target(image), work));
    return;
  }
  await withPath(below.path, async () => {
    const [layer] = openLayers(below.path, { format: 'raw', writable: true });
    try {
      await commitOverlay(overlay, rawCommitTarget(new ImageFile(layer!.fd, below.path)), work);
    } finally {
      closeSync(layer!.fd);
    }
  });
}

function qcow2Target(image: Qcow2Image): CommitTarget {
  return {
    get size() {
      return image.size;
    },
    resize: (bytes) => resizeImage(image, bytes),
    write: (offset, ranges) => image.write(offset, ranges),
    writeZeroes: (offset, length) => image.writeZeroes(offset, length, true),
    flush: () => image.flush(),
  };
}

function rawCommitTarget(file: ImageFile): CommitTarget {
  return {
    ...rawTarget(file),
    get size() {
      return file.size;
    },
    resize: (bytes) => file.truncate(bytes),
    writeZeroes: (offset, length) => {
      if (!file.punch(offset, length)) file.writeZeroes(offset, length);
    },
  };
}
