import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { elfImage, gzipBzImage } from '../arch/x86_64/kernel/images.ts';
import { Place } from './vivarium.ts';

const place = new Place();
after(() => place.remove());

/** OUT of each character to COM1; the same bytes in 32- and 64-bit mode. */
function print(text: string): number[] {
  return [0x66, 0xba, 0xf8, 0x03, ...Array.from(text).flatMap((c) => [0xb0, c.charCodeAt(0), 0xee])];
}
/** Writes `value` to port 0xf4. */
const debugExit = (value: number): number[] => [0xb0, value, 0xe6, 0xf4];
const halt = [0xfa, 0xf4, 0xeb, 0xfc];
/** Resets by the 8042. */
const reset = [0xb0, 0xfe, 0xe6, 0x64, ...halt];
const ud2 = [0x0f, 0x0b];

function kernel(name: string, ...code: readonly number[][]): string {
  return place.file(name, elfImage(Uint8Array.from(code.flat())));
}

test('its version is told', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  assert.deepEqual(await place.run(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' });
});

test('without a terminal the console is plain bytes', async () => {
  const elf = elfImage(Uint8Array.from([...print('hello\r\nno end of line'), ...reset]));
  for (const name of [place.file('vmlinux', elf), place.file('bzImage', gzipBzImage(elf))]) {
    const { status, stdout, stderr } = await place.run(['run', name]);
    assert.equal(stderr, '');
    assert.equal(stdout, 'hello\r\nno end of line');
    assert.equal(status, 0);
  }
});

test('a triple fault has a status of its own', async () => {
  const { status, stdout, stderr } = await place.run(['run', kernel('fault', print('x\n'), ud2)]);
  assert.equal(stdout, 'x\n');
  assert.equal(stderr, 'vivarium: processor 0 of the guest shut down (triple fault)\n');
  assert.equal(status, 3);
});

test('port 0xf4 ends the run with --debug-exit, and is nothing without', async () => {
  const name = kernel('debug-exit', debugExit(5), print('on\n'), reset);
  const { status, stdout } = await place.run(['run', '--debug-exit', name]);
  assert.deepEqual([status, stdout], [11, '']);
  const without = await place.run(['run', name]);
  assert.deepEqual([without.status, without.stdout], [0, 'on\n']);
});
