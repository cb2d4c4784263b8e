/** Images for tests: a folder of their own, QEMU's tools, and disks as plain buffers. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageFile } from '../../src/disk/image-file.ts';
import { rangeOf } from '../../src/disk/iovec.ts';
import { imageOf, openLayers } from '../../src/disk/layers.ts';
import { type CreateOptions, createQcow2 } from '../../src/disk/qcow2/create.ts';
import type { Qcow2Image } from '../../src/disk/qcow2/image.ts';

export class Images {
  readonly folder = mkdtempSync(join(tmpdir(), 'vivarium-disk-'));

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Runs qemu-img in the folder; returns what it prints. Throws if it fails. */
  qemuImg(...args: string[]): string {
    return execFileSync('qemu-img', args, { cwd: this.folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Runs qemu-io commands on an image. */
  qemuIo(name: string, ...commands: string[]): string {
    const args = commands.flatMap((command) => ['-c', command]);
    return execFileSync('qemu-io', ['-f', 'qcow2', ...args, name], {
      cwd: this.folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** What `qemu-img check` says, with its exit status: 0 sound, 2 corrupt, 3 leaks. */
  qemuCheck(name: string, ...options: string[]): { readonly status: number | null; readonly text: string } {
    const args = ['check', '-f', 'qcow2', ...options, name];
    const { status, stdout, stderr } = spawnSync('qemu-img', args, { cwd: this.folder, encoding: 'utf8' });
    return { status, text: `${stdout}${stderr}` };
  }

  /**
   * What a disk holds after its writer was killed. Fails unless QEMU finds the image sound: leaked clusters are no harm, if the image says
   * that it has to be looked after, and the next writer does.
   */
  afterKill(name: string): { readonly content: Buffer; readonly dirty: boolean } {
    const { status, text } = this.qemuCheck(name);
    const header = readFileSync(this.path(name));
    const [version, dirty] = [header.readUInt32BE(4), (header[79]! & 1) !== 0];
    assert.ok(status === 0 || (status === 3 && (dirty || version === 2)), `${name}: ${text}`);
    const image = openDisk(this.path(name), true);
    const content = readAll(image);
    closeDisk(image);
    if (version === 3) assert.equal(this.qemuCheck(name).status, 0);
    return { content, dirty };
  }

  /** Makes an image with Vivarium. */
  create(name: string, options: CreateOptions): void {
    const fd = openSync(this.path(name), 'wx+');
    try {
      createQcow2(new ImageFile(fd, this.path(name)), options);
    } finally {
      closeSync(fd);
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Opens an image with what is under it. */
export function openDisk(path: string, writable: boolean): Qcow2Image {
  return imageOf(openLayers(path, { format: 'qcow2', writable }));
}

/** Closes an image and its file. */
export function closeDisk(image: Qcow2Image): void {
  try {
    image.close();
  } finally {
    closeSync(image.file.fd);
  }
}

export function readAll(image: Qcow2Image): Buffer {
  const buffer = Buffer.alloc(image.size);
  if (image.size > 0) image.read(0, [rangeOf(buffer)]);
  return buffer;
}
