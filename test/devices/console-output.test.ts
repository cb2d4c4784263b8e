import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { CONSOLE_OUTPUT_STATE_SIZE, ConsoleOutput } from '../../src/devices/console-output.ts';
import type { SharedRange } from '../../src/devices/device-state.ts';
import { waitWritable } from '../../src/host/output.ts';
import { sharedRange } from './support.ts';

/** Writes lines of its own letter, in single bytes, as a vCPU's thread does. */
const WRITER = `
  const { workerData } = require('node:worker_threads');
  import(${JSON.stringify(new URL('../../src/devices/console-output.ts', import.meta.url).href)}).then(({ ConsoleOutput }) => {
    const output = new ConsoleOutput(workerData.range, workerData.fd, () => {});
    for (let i = 0; i < workerData.lines; i++) {
      for (const c of workerData.letter.repeat(i % 50) + '\\n') output.write(Uint8Array.of(c.charCodeAt(0)));
    }
  });
`;

function startWriter(range: SharedRange, fd: number, lines: number, letter = 'x'): Worker {
  return new Worker(WRITER, { eval: true, workerData: { range, fd, lines, letter } });
}

function ended(worker: Worker): Promise<number> {
  return new Promise((resolve) => worker.once('exit', resolve));
}

/** A pipe of the kernel's: a FIFO, open at both ends. */
function pipe(): { fd: number; close: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'console-'));
  const name = join(folder, 'fifo');
  execFileSync('mkfifo', [name]);
  const fd = openSync(name, 'r+');
  const close = () => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  };
  return { fd, close };
}

/** Waits until the pipe is full and a line stays behind in the buffer. */
async function blocked(output: ConsoleOutput, fd: number): Promise<void> {
  while (output.pending === 0 || waitWritable(fd, 0)) await new Promise((resolve) => setTimeout(resolve, 10));
}

function toFile() {
  const folder = mkdtempSync(join(tmpdir(), 'console-'));
  const name = join(folder, 'out');
  const fd = openSync(name, 'w');
  const range = sharedRange(CONSOLE_OUTPUT_STATE_SIZE);
  let pending = 0;
  const output = new ConsoleOutput(range, fd, () => void pending++);
  output.reset();
  const close = () => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  };
  return { output, range, fd, text: () => readFileSync(name, 'latin1'), pending: () => pending, close };
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

test('a newline pushes everything out; the rest waits for the main thread, which is told once', () => {
  const { output, text, pending, close } = toFile();
  output.write(bytes('login'));
  output.write(bytes(': '));
  assert.equal(text(), '');
  assert.equal(pending(), 1);
  assert.equal(output.pending, 7);
  assert.equal(output.flush(), 0);
  assert.equal(text(), 'login: ');
  output.write(bytes('a\nb'));
  assert.equal(text(), 'login: a\nb');
  close();
});

test('long output without a newline goes out too, whole and in order', () => {
  const { output, text, close } = toFile();
  const long = Array.from({ length: 50_000 }, (_, i) => String.fromCharCode(0x20 + (i % 90))).join('');
  output.write(bytes(long.slice(0, 30_000)));
  for (const c of long.slice(30_000)) output.write(bytes(c));
  output.flush();
  assert.equal(text(), long);
  close();
});

test('threads that write at once lose nothing', async () => {
  const { output, range, fd, text, close } = toFile();
  await Promise.all(['a', 'b'].map((letter) => ended(startWriter(range, fd, 300, letter))));
  output.flush();
  const all = text();
  for (const letter of 'ab') {
    assert.equal(
      all.split(letter).length - 1,
      Array.from({ length: 300 }, (_, i) => i % 50).reduce((x, y) => x + y),
    );
  }
  assert.equal(all.split('\n').length - 1, 600);
  close();
});

test('a blocked pipe makes writers wait, not the main thread; nothing is lost when it opens', async () => {
  const { fd, close } = pipe();
  const range = sharedRange(CONSOLE_OUTPUT_STATE_SIZE);
  const output = new ConsoleOutput(range, fd, () => {});
  output.reset();
  const lines = 6000;
  const worker = startWriter(range, fd, lines);
  const exit = ended(worker);
  await blocked(output, fd);
  const start = performance.now();
  assert.ok(output.flush() > 0);
  assert.ok(performance.now() - start < 90);
  let got = '';
  const part = Buffer.alloc(65536);
  const total = Array.from({ length: lines }, (_, i) => (i % 50) + 1).reduce((x, y) => x + y);
  while (got.length < total) {
    got += part.toString('latin1', 0, readSync(fd, part));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(await exit, 0);
  assert.equal(got, Array.from({ length: lines }, (_, i) => `${'x'.repeat(i % 50)}\n`).join(''));
  assert.equal(output.pending, 0);
  close();
});

test('stop() frees a writer that waits', async () => {
  const { fd, close } = pipe();
  const range = sharedRange(CONSOLE_OUTPUT_STATE_SIZE);
  const output = new ConsoleOutput(range, fd, () => {});
  output.reset();
  const worker = startWriter(range, fd, 10_000);
  const exit = ended(worker);
  await blocked(output, fd);
  output.stop();
  assert.equal(await exit, 0);
  close();
});

test('a write that fails is an error, told once, and output is dropped', () => {
  const range = sharedRange(CONSOLE_OUTPUT_STATE_SIZE);
  const fd = openSync('/dev/full', 'w');
  let told = 0;
  const output = new ConsoleOutput(range, fd, () => void told++);
  output.reset();
  output.write(bytes('x\n'));
  assert.equal(output.error?.code, 'ENOSPC');
  assert.equal(told, 1);
  output.write(new Uint8Array(100_000).fill(0x0a));
  assert.equal(output.pending, 0);
  assert.equal(output.flush(), 0);
  assert.equal(told, 1);
  closeSync(fd);
});

test('a reader that goes away frees a writer that waits, and is told as EPIPE', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'console-'));
  const name = join(folder, 'fifo');
  execFileSync('mkfifo', [name]);
  const reader = openSync(name, 'r+');
  const fd = openSync(name, 'w');
  const range = sharedRange(CONSOLE_OUTPUT_STATE_SIZE);
  const output = new ConsoleOutput(range, fd, () => {});
  output.reset();
  const exit = ended(startWriter(range, fd, 10_000));
  await blocked(output, fd);
  closeSync(reader);
  assert.equal(await exit, 0);
  assert.equal(output.error?.code, 'EPIPE');
  assert.equal(output.pending, 0);
  closeSync(fd);
  rmSync(folder, { recursive: true });
});
