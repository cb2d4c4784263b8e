import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, readdirSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EMFILE, ENOMEM, ENOSPC, EPERM, OsError } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import {
  advise,
  createMemfd,
  MAX_WINDOW_SIZE,
  mapInto,
  punchHole,
  SharedRegion,
  trimMalloc,
  unmapFrom,
  window,
} from '../../src/host/memory.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Makes one function fail. */
function failing<T>(name: string, errno: number, body: () => T): T {
  setFaultHook((called) => (called === name ? errno : undefined));
  try {
    return body();
  } finally {
    setFaultHook(undefined);
  }
}

test('two windows on one region show the same bytes, until one is unmapped', () => {
  const region = SharedRegion.create(MIB);
  const a = region.window();
  const b = region.window();
  assert.equal(a.length, MIB);
  a[MIB - 1] = 7;
  b[4096] = 9;
  assert.deepEqual([b[MIB - 1], a[4096]], [7, 9]);
  unmapFrom(b.buffer, 4096, 4096);
  assert.equal(b[4096], 0);
  b[4096] = 1;
  assert.equal(a[4096], 9);
  assert.equal(b[MIB - 1], 7);
  region.close();
  assert.equal(a[4096], 9);
});

test('a size that is no multiple of 64 KiB has a window of that size', () => {
  const region = SharedRegion.create(MIB + 4096);
  const bytes = region.window();
  assert.equal(bytes.length, MIB + 4096);
  bytes[MIB + 4095] = 1;
  const tail = region.window(MIB);
  assert.equal(tail.length, 4096);
  assert.equal(tail[4095], 1);
  region.close();
});

test('WebAssembly code sees what is mapped into its memory', () => {
  // (func (export "f") (result i32) (i32.load (i32.const 65536))) with an imported memory "m" "m" of 2 pages.
  const module = new WebAssembly.Module(
    // biome-ignore format: bytes of a module, section by section
    new Uint8Array([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      1, 5, 1, 0x60, 0, 1, 0x7f,
      2, 8, 1, 1, 0x6d, 1, 0x6d, 2, 0, 2,
      3, 2, 1, 0,
      7, 5, 1, 1, 0x66, 0, 0,
      10, 11, 1, 9, 0, 0x41, 0x80, 0x80, 4, 0x28, 2, 0, 0x0b,
    ]),
  );
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 });
  const load = new WebAssembly.Instance(module, { m: { m: memory } }).exports.f as () => number;
  assert.equal(load(), 0);
  const region = SharedRegion.create(65536);
  region.window().set([0x78, 0x56, 0x34, 0x12], 4096);
  mapInto(memory.buffer as ArrayBuffer, 65536, region.fd, 4096, 4096);
  assert.equal(load(), 0x12345678);
  unmapFrom(memory.buffer as ArrayBuffer, 65536, 4096);
  assert.equal(load(), 0);
  region.close();
});

test('another thread maps the same descriptor', async () => {
  const region = SharedRegion.create(MIB);
  const bytes = region.window();
  bytes[100] = 1;
  const code = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { SharedRegion } = await import(workerData.module);
    const bytes = SharedRegion.open(workerData.fd, workerData.size).window();
    bytes[101] = bytes[100] + 1;
    parentPort.postMessage('done');
  `;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    workerData: { module: new URL('../../src/host/memory.ts', import.meta.url).href, fd: region.fd, size: region.size },
  });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  assert.equal(bytes[101], 2);
  region.close();
});

test('windows above 4 GiB in the file, and one of more than 4 GiB', () => {
  const region = SharedRegion.create(5 * GIB);
  const all = region.window();
  const upper = region.window(4 * GIB);
  assert.equal(upper.length, GIB);
  all[4 * GIB - 1] = 1;
  upper[GIB - 1] = 2;
  assert.equal(all[5 * GIB - 1], 2);
  const byte = Buffer.alloc(1);
  readSync(region.fd, byte, 0, 1, 4 * GIB - 1);
  assert.equal(byte[0], 1);
  readSync(region.fd, byte, 0, 1, 5 * GIB - 1);
  assert.equal(byte[0], 2);
  assert.throws(() => region.window(0, MAX_WINDOW_SIZE + MIB), /a window of \d+ bytes is too large/);
  region.close();
});

test('the size is sealed, and a descriptor that is too small is refused', () => {
  const region = SharedRegion.create(MIB);
  assert.throws(() => ftruncateSync(region.fd, 4096), { code: 'EPERM' });
  assert.throws(() => ftruncateSync(region.fd, 2 * MIB), { code: 'EPERM' });
  assert.throws(() => SharedRegion.open(region.fd, 2 * MIB), { code: 'EINVAL' });
  assert.equal(SharedRegion.open(region.fd, MIB).size, MIB);
  region.close();
});

test('ranges that would hit foreign memory are refused', () => {
  const region = SharedRegion.create(MIB);
  const { buffer } = region.window();
  assert.throws(() => mapInto(buffer, 0, region.fd, 0, 2 * MIB), RangeError);
  assert.throws(() => mapInto(buffer, MIB, region.fd, 0, 4096), RangeError);
  assert.throws(() => mapInto(buffer, 1, region.fd, 0, 4096), RangeError);
  assert.throws(() => mapInto(buffer, -4096, region.fd, 0, 4096), RangeError);
  assert.throws(() => mapInto(buffer, 0, region.fd, 1, 4096), RangeError);
  assert.throws(() => mapInto(buffer, 0, region.fd, MIB, 4096), RangeError);
  assert.throws(() => unmapFrom(buffer, 0, MIB + 4096), RangeError);
  assert.throws(() => unmapFrom(buffer, 0, 0), RangeError);
  for (const size of [0, -4096, 1, 4097, Number.NaN, 2 ** 60]) {
    assert.throws(() => SharedRegion.create(size), Error, String(size));
  }
  region.close();
});

test('a hole and advice give memory back', () => {
  const region = SharedRegion.create(MIB);
  const bytes = region.window();
  bytes.fill(1);
  punchHole(region.fd, 0, 4096);
  assert.deepEqual([bytes[0], bytes[4095], bytes[4096]], [0, 0, 1]);
  advise(bytes.buffer, 4096, 4096, 'remove');
  assert.deepEqual([bytes[4096], bytes[8192]], [0, 1]);
  assert.throws(() => advise(bytes.buffer, MIB, 4096, 'dontneed'), RangeError);
  region.close();
});

test('a read-only mapping can be read', () => {
  const fd = createMemfd('test', 4096);
  writeSync(fd, 'x');
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  mapInto(memory.buffer as ArrayBuffer, 0, fd, 0, 4096, { readOnly: true });
  assert.equal(new Uint8Array(memory.buffer)[0], 'x'.charCodeAt(0));
  closeSync(fd);
});

test('calls that fail leave nothing behind', () => {
  SharedRegion.create(4096).close();
  const before = openDescriptors();
  const cases = [
    ['memfd_create', EMFILE],
    ['ftruncate', ENOSPC],
    ['fcntl', EPERM],
  ] as const;
  for (const [name, errno] of cases) {
    const error = failing(name, errno, () => {
      try {
        SharedRegion.create(4096);
        return undefined;
      } catch (thrown) {
        return thrown;
      }
    });
    assert.ok(error instanceof OsError, name);
    assert.equal(error.errno, errno);
    assert.equal(error.syscall, name);
    assert.equal(openDescriptors(), before);
  }
  const region = SharedRegion.create(4096);
  assert.throws(
    () => failing('mmap', ENOMEM, () => window(region.fd, 0, 4096)),
    /^OsError: mmap: cannot allocate memory$/,
  );
  region.close();
});

test('what malloc() has freed is given back; where the C library cannot, nothing happens, then or later', () => {
  let calls = 0;
  setFaultHook((name) => {
    if (name === 'malloc_trim') calls++;
    return undefined;
  });
  trimMalloc();
  assert.equal(calls, 1);
  setFaultHook((name) => {
    if (name !== 'malloc_trim') return undefined;
    calls++;
    throw new Error('no such function');
  });
  trimMalloc();
  trimMalloc();
  assert.equal(calls, 2);
  setFaultHook(undefined);
});
