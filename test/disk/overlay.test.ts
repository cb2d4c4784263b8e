// Disks whose changes are thrown away, and the locks of all files of a disk.
import assert from 'node:assert/strict';
import { closeSync, fstatSync, readFileSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { rangeOf } from '../../src/disk/iovec.ts';
import { closeLayers, imageOf, openLayers } from '../../src/disk/layers.ts';
import { openOverlay } from '../../src/disk/overlay.ts';
import { Images, readAll } from './images.ts';

const images = new Images();
after(() => images.remove());

const content = Buffer.alloc(2 ** 20 + 512, 'content ');
writeFileSync(images.path('disk.raw'), content);
images.qemuImg('convert', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');

for (const format of ['raw', 'qcow2'] as const) {
  test(`an overlay on ${format}: written and read, and the image is as before`, () => {
    const path = images.path(`disk.${format}`);
    const before = readFileSync(path);
    const image = imageOf(openOverlay(path, format));
    assert.equal(fstatSync(image.file.fd).nlink, 0, 'it has no name that could be left behind');
    assert.ok(readAll(image).equals(content));
    image.write(1000, [rangeOf(Buffer.alloc(100_000, 1))]);
    image.writeZeroes(2 ** 19, 65536, true);
    image.flush();
    assert.ok(
      readAll(image).equals(
        Buffer.from(content)
          .fill(1, 1000, 101_000)
          .fill(0, 2 ** 19, 2 ** 19 + 65536),
      ),
    );
    // Two runs can share the image; none can write to it.
    closeLayers(openOverlay(path, format));
    assert.throws(() => openLayers(path, { format, writable: true }), { message: /in use by this process already/ });
    image.close();
    closeSync(image.file.fd);
    assert.ok(readFileSync(path).equals(before));
  });
}

test('no overlay on what is not there, or in use', () => {
  assert.throws(() => openOverlay(images.path('absent'), 'raw'), { message: /absent: there is no such file/ });
  const layers = openLayers(images.path('disk.raw'), { format: 'raw', writable: true });
  assert.throws(() => openOverlay(images.path('disk.raw'), 'raw'), { message: /in use/ });
  closeLayers(layers);
  closeLayers(openOverlay(images.path('disk.raw'), 'raw'));
});
