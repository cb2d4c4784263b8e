import { closeSync, openSync, truncateSync, writeFileSync } from 'node:fs';
import { ImageFile } from '../../src/disk/image-file.ts';
import { createQcow2 } from '../../src/disk/qcow2/create.ts';

/** Makes an empty image of `size` MiB, in place of what is there. */
export function makeImage(path: string, format: 'raw' | 'qcow2', size: number): void {
  writeFileSync(path, '');
  if (format === 'raw') {
    truncateSync(path, size * 2 ** 20);
    return;
  }
  const fd = openSync(path, 'r+');
  createQcow2(new ImageFile(fd, path), { size: size * 2 ** 20 });
  closeSync(fd);
}
