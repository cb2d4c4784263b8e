/** Changes the virtual size of an image. */
import { DiskError } from '../error.ts';
import { largestSize } from './create.ts';
import { roundUp, SECTOR } from './format.ts';
import type { Qcow2Image } from './image.ts';
import { writeL1Fields } from './snapshots.ts';

/**
 * Makes the disk larger or smaller; what is new reads as zeroes. `size`: bytes, rounded up to sectors of 512.
 * @throws DiskError, OsError
 */
export function resizeImage(image: Qcow2Image, size: number): void {
  const wanted = roundUp(size, SECTOR);
  const most = largestSize(image.header.clusterBits);
  if (!(wanted >= 0 && wanted <= most)) {
    throw new DiskError(
      `${image.file.path}: with clusters of ${image.clusterSize} bytes, a disk has at most ${most} bytes`,
    );
  }
  // The snapshots of version 2 do not say how large the disk was.
  if (image.header.version < 3 && image.header.snapshotCount > 0) {
    throw new DiskError(`${image.file.path}: it has snapshots: its size cannot be changed in version 2 of qcow2`);
  }
  if (wanted < image.size) shrink(image, wanted);
  else if (wanted > image.size) grow(image, wanted);
}

function shrink(image: Qcow2Image, size: number): void {
  // What is cut off must not come back when the disk grows again.
  image.writeZeroes(size, image.size - size, true);
  image.flush();
  image.modify(() => {
    image.setSize(size);
    writeL1Fields(image, size, image.mapping.l1Size, image.mapping.l1Offset);
  });
}

function grow(image: Qcow2Image, size: number): void {
  const before = image.size;
  image.flush();
  image.modify((metadata) => {
    const { mapping, refcounts } = metadata;
    const l1Size = Math.ceil(size / (image.clusterSize * mapping.perTable));
    if (l1Size > mapping.l1Size) {
      const old = { offset: mapping.l1Offset, length: mapping.l1Size * 8 };
      const l1 = Buffer.alloc(roundUp(l1Size * 8, image.clusterSize));
      l1.set(mapping.copyL1());
      metadata.holdingDirty(() => {
        const offset = refcounts.allocateRun(l1.length / image.clusterSize) * image.clusterSize;
        image.file.write(l1, offset);
        metadata.commit();
        // Its present size: what lies behind may have to be covered first.
        writeL1Fields(image, before, l1Size, offset);
        metadata.addMetadata(offset, l1.length);
        metadata.removeMetadata(old.offset, old.length);
        mapping.moveL1(offset, l1.subarray(0, l1Size * 8));
        metadata.releaseRun(old.offset, old.length);
      });
      metadata.commit();
    }
    image.setSize(size);
  });
  // A larger disk under the image must not show through, nor what is left in the last cluster.
  const covered = Math.max(image.backing?.size ?? 0, roundUp(before, image.clusterSize));
  if (covered > before) image.writeZeroes(before, Math.min(covered, size) - before, true);
  image.flush();
  writeL1Fields(image, size, image.mapping.l1Size, image.mapping.l1Offset);
}
