import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConfigError } from '../../../src/vm/config.ts';
import { cpuProfile } from '../../../src/vm/insight/profile.ts';
import { describeCounts } from '../../../src/vm/insight/report.ts';
import { findSymbols, parseSymbols, SymbolTable } from '../../../src/vm/insight/symbols.ts';

const SYSTEM_MAP = `ffffffff81000000 T _stext
ffffffff81000040 t secondary_startup
ffffffff81000040 D some_data
ffffffff81200000 W memcpy
`;

/** An ELF with a .symtab of these functions, and nothing else. */
function elfWith(symbols: readonly { name: string; address: bigint }[]): Buffer {
  const names = Buffer.from(`\0${symbols.map(({ name }) => `${name}\0`).join('')}`);
  const table = Buffer.alloc((symbols.length + 1) * 24);
  symbols.forEach(({ name, address }, i) => {
    const at = (i + 1) * 24;
    table.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, at);
    table.writeUInt8(0x12, at + 4);
    table.writeUInt16LE(1, at + 6);
    table.writeBigUInt64LE(address, at + 8);
  });
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  const sections = Buffer.alloc(3 * 64);
  const [namesAt, tableAt] = [64, 64 + names.length];
  header.writeBigUInt64LE(BigInt(tableAt + table.length), 0x28);
  header.writeUInt16LE(3, 0x3c);
  sections.writeUInt32LE(2, 64 + 4);
  sections.writeBigUInt64LE(BigInt(tableAt), 64 + 24);
  sections.writeBigUInt64LE(BigInt(table.length), 64 + 32);
  sections.writeUInt32LE(2, 64 + 40);
  sections.writeUInt32LE(3, 128 + 4);
  sections.writeBigUInt64LE(BigInt(namesAt), 128 + 24);
  sections.writeBigUInt64LE(BigInt(names.length), 128 + 32);
  return Buffer.concat([header, names, table, sections]);
}

test('symbols of a System.map', () => {
  const table = parseSymbols(Buffer.from(SYSTEM_MAP)) as SymbolTable;
  assert.equal(table.size, 3);
  assert.equal(table.at(0xffffffff80ffffffn), undefined);
  assert.equal(table.at(0xffffffff81000000n)?.name, '_stext');
  assert.equal(table.at(0xffffffff8100003fn)?.name, '_stext');
  assert.equal(table.at(0xffffffff81000040n)?.name, 'secondary_startup');
  assert.equal(table.at(2n ** 64n - 1n)?.name, 'memcpy');
});

test('symbols of an ELF; one that is cut short has none', () => {
  const elf = elfWith([
    { name: 'late', address: 0xffffffff81000100n },
    { name: 'early', address: 0xffffffff81000000n },
  ]);
  const table = parseSymbols(elf) as SymbolTable;
  assert.equal(table.at(0xffffffff810000ffn)?.name, 'early');
  assert.equal(table.at(0xffffffff81000100n)?.name, 'late');
  for (let length = 0; length < elf.length - 1; length += 7) parseSymbols(elf.subarray(0, length));
  assert.equal(parseSymbols(elf.subarray(0, 100)), undefined);
});

test('symbols are found beside the kernel, or where the user says', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-symbols-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const kernel = join(folder, 'vmlinuz-6.1');
  writeFileSync(kernel, 'no ELF');
  assert.equal(findSymbols(kernel, undefined).size, 0);
  writeFileSync(join(folder, 'System.map'), 'ffffffff81000000 T other\n');
  writeFileSync(join(folder, 'System.map-6.1'), SYSTEM_MAP);
  assert.equal(findSymbols(kernel, undefined).at(0xffffffff81000000n)?.name, '_stext');
  assert.equal(findSymbols(kernel, join(folder, 'System.map')).at(0xffffffff81000000n)?.name, 'other');
  assert.throws(() => findSymbols(kernel, kernel), ConfigError);
  assert.throws(() => findSymbols(kernel, join(folder, 'missing')), /missing: the symbols cannot be read/);
});

test('a profile has a node for each place, with the time up to each sample', () => {
  const symbols = new SymbolTable([{ address: 0xffffffff81000000n, name: 'work' }]);
  const samples = {
    times: Float64Array.of(5e6, 6e6, 8e6, 9e6, 9.5e6),
    places: BigUint64Array.of(0xffffffff81000010n, 0xffffffff81000020n, 0x401234n, 0n, 0x123456n),
    spaces: BigUint64Array.of(0n, 0n, 0x5000n, 0n, 0n),
  };
  const profile = cpuProfile([samples], symbols);
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const names = profile.samples.map((id) => nodes.get(id)?.callFrame.functionName);
  assert.deepEqual(names, ['work', 'work', '0x401000', '(idle)', '0x123000']);
  assert.deepEqual(profile.timeDeltas, [0, 1000, 2000, 1000, 500]);
  assert.equal(profile.endTime, 4500);
  assert.equal(profile.nodes.find(({ callFrame }) => callFrame.functionName === 'work')?.hitCount, 2);
  // Every node but the root is the child of one other.
  const children = profile.nodes.flatMap((node) => node.children).toSorted((a, b) => a - b);
  assert.deepEqual(
    children,
    profile.nodes.slice(1).map(({ id }) => id),
  );
});

test('statistics are a column of numbers', () => {
  assert.deepEqual(describeCounts(0, { instructions: 1234567, '  halted ms': 1.25 }), [
    'processor 0:',
    '  instructions  1,234,567',
    '    halted ms         1.3',
  ]);
});
