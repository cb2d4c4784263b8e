/** Disks whose changes are thrown away: a temporary image on top of one that stays as it is. */
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageFile } from './image-file.ts';
import { backingOf, closeLayers, type DiskFormat, type Layer, openLayers } from './layers.ts';
import { createQcow2 } from './qcow2/create.ts';

/**
 * Opens a disk for writing into an image that has no name and goes with its descriptor; the files below are for reading.
 * The first layer is the new image. Throws DiskError, OsError.
 */
export function openOverlay(path: string, format: DiskFormat | undefined): Layer[] {
  const below = openLayers(path, { format, writable: false });
  try {
    const size = sizeOf(below);
    const folder = mkdtempSync(join(tmpdir(), 'vivarium-overlay-'));
    let fd: number;
    try {
      fd = openSync(join(folder, 'overlay.qcow2'), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    } finally {
      // The name is not needed any more: nothing is left behind, however the run ends.
      rmSync(folder, { recursive: true, force: true });
    }
    const top = { fd, path: `${path} (overlay)`, format: 'qcow2', writable: true } as const;
    below.unshift(top);
    createQcow2(new ImageFile(fd, top.path), { size });
    return below;
  } catch (error) {
    closeLayers(below);
    throw error;
  }
}

function sizeOf(layers: readonly Layer[]): number {
  // Closing it would close the descriptors, which go on.
  return backingOf(layers)?.size ?? 0;
}
