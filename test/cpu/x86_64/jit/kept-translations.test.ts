// Templates of earlier runs: what a guest does is the same with them, wherever its code and its records lie; and what the file holds is not trusted.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type Batch, compile } from '../../../../src/cpu/x86_64/jit/compile.ts';
import { KeptTranslations } from '../../../../src/cpu/x86_64/jit/kept-translations.ts';
import { type Assembler, absolute, at } from '../../../asm/assembler.ts';
import { CODE, DATA, Guest, type Surroundings } from './guest.ts';

/** Loops, calls within and across pages, an instruction in two pages, accesses that share look-ups, string operations, flags, a helper. */
function program(a: Assembler, carried = 7, even = 5, crossing = 0x1234567): void {
  a.mov('eax', 0);
  a.mov('edx', 0);
  a.mov('ecx', 300);
  a.mov('ebx', DATA);
  a.label('head');
  a.mov(at('rbx', 8, 8), 'rcx');
  a.add('rax', at('rbx', 8, 8));
  a.mov(at('rbx', 16, 8), 'rax');
  a.call('near');
  a.call('far');
  a.push('rcx');
  a.mov('ecx', 3);
  a.mov('edi', DATA + 0x100);
  a.repStosb();
  a.pop('rcx');
  a.test('ecx', 1);
  a.jcc('ne', 'odd');
  a.add('rax', even);
  a.label('odd');
  a.dec('ecx');
  a.jcc('ne', 'head');
  a.hlt();
  a.label('near');
  a.shl('rax', 3);
  a.jcc('b', 'carried');
  a.adc('rax', carried);
  a.label('carried');
  a.ret();
  a.align(4096);
  a.label('far');
  a.push('rdx');
  a.mul('rcx');
  a.pop('rdx');
  a.jmp('crossing');
  a.org(CODE + 0x2000 - 4);
  a.label('crossing');
  a.add('rax', crossing);
  a.mov(absolute(DATA, 8), 'rax');
  a.ret();
}

interface Run {
  readonly state: string;
  readonly regions: number;
  readonly found: number;
}

let folder: string;
let translator: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vivarium-kept-'));
  translator = join(folder, 'translator');
  writeFileSync(translator, 'one version');
});

afterEach(() => rmSync(folder, { recursive: true }));

const keptFolder = (): string => join(folder, 'kept');
const files = (): string[] => readdirSync(keptFolder()).map((name) => join(keptFolder(), name));

function open(): KeptTranslations {
  const kept = KeptTranslations.open(keptFolder(), translator);
  assert.ok(kept);
  return kept;
}

function run(
  kept: KeptTranslations | undefined,
  surroundings: Surroundings = {},
  what: (a: Assembler) => void = program,
): Run {
  let [regions, found] = [0, 0];
  const guest = new Guest(
    (batch: Batch) => {
      const answer = compile(batch, kept);
      regions += answer.slots.length;
      found += answer.kept;
      return answer;
    },
    what,
    undefined,
    surroundings,
  );
  guest.run(7);
  assert.ok(guest.cpu.counts().translated > 1000, 'translated code has run');
  return { state: guest.state, regions, found };
}

describe('translations of earlier runs', () => {
  test('are found, and do the same wherever records and pages are', () => {
    const interpreted = new Guest('none', program);
    interpreted.run(1000);
    const first = run(open());
    assert.equal(first.state, interpreted.state);
    assert.equal(first.found, 0);
    for (const surroundings of [{}, { gap: 0x12340 * 32 }, { gap: 32, third: 0x300000 }]) {
      const later = run(open(), surroundings);
      assert.equal(later.state, interpreted.state);
      assert.equal(later.regions, first.regions);
      assert.equal(later.found, first.regions, JSON.stringify(surroundings));
    }
  });

  test('are not taken for other code', () => {
    const first = run(open());
    for (const numbers of [[8], [7, 6], [7, 5, 0x1234568]]) {
      const changed = (a: Assembler): void => program(a, ...numbers);
      const interpreted = new Guest('none', changed);
      interpreted.run(1000);
      const later = run(open(), {}, changed);
      assert.equal(later.state, interpreted.state);
      assert.ok(later.found < first.regions, `${numbers}`);
    }
  });

  test('of several machines are in one file', () => {
    const [one, other] = [open(), open()];
    const first = run(one);
    assert.equal(run(other).found, 0);
    assert.equal(files().length, 1);
    assert.equal(run(open()).found, first.regions);
  });

  test('of one run are written once', () => {
    const kept = open();
    run(kept);
    const { size } = statSync(files()[0] as string);
    run(kept);
    assert.equal(statSync(files()[0] as string).size, size);
  });

  test('that are damaged are made anew', () => {
    const first = run(open());
    const [path] = files() as [string];
    const whole = readFileSync(path);
    // Behind the first entry's head.
    const damaged = Buffer.from(whole);
    damaged[32 + 40] = (damaged[32 + 40] as number) ^ 1;
    writeFileSync(path, damaged);
    const later = run(open());
    assert.equal(later.state, first.state);
    assert.equal(later.found, first.regions - 1);
    for (const bytes of [
      whole.subarray(0, -1),
      whole.subarray(0, 40),
      Buffer.concat([whole, Buffer.from('x')]),
      Buffer.alloc(100),
    ]) {
      writeFileSync(path, bytes);
      assert.equal(run(open()).found, 0, 'the file begins anew');
      assert.equal(run(open()).found, first.regions);
    }
  });

  test('are those of the same translator, and older ones go', () => {
    run(open());
    for (let version = 0; version < 5; version++) {
      for (const path of files()) utimesSync(path, 1000 + version, 1000 + version);
      writeFileSync(translator, `version ${version}`);
      assert.equal(run(open()).found, 0);
    }
    assert.equal(files().length, 3);
  });

  test('cannot be kept where nothing can be written', () => {
    writeFileSync(keptFolder(), 'a file where a folder should be');
    assert.equal(KeptTranslations.open(keptFolder(), translator), undefined);
  });

  test('are for nobody else to read or write', () => {
    run(open());
    assert.equal(statSync(keptFolder()).mode & 0o777, 0o700);
    assert.equal(statSync(files()[0] as string).mode & 0o777, 0o600);
  });
});
