// Addresses as people write them, against Node's readers. Prints its seed; ADDRESS_SEED takes it back.
import assert from 'node:assert/strict';
import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '../../src/net/address.ts';
import { Random } from '../disk/pseudo-random.ts';

const TEXTS = 20_000;
const PIECES = [
  '0',
  '1',
  '9',
  '10',
  '255',
  '256',
  '01',
  'ff',
  'FFFF',
  '12345',
  'g',
  ' ',
  '-',
  ':',
  ':',
  ':',
  '::',
  '.',
];

const EXAMPLES: readonly (readonly [text: string, bytes: readonly number[]])[] = [
  ['10.0.2.15', [10, 0, 2, 15]],
  ['::', new Array(16).fill(0)],
  ['fd00::1', [0xfd, ...new Array(14).fill(0), 1]],
  ['1:2:3:4:5:6:7::', [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0]],
  ['::FFFF:1.2.3.4', [...new Array(10).fill(0), 0xff, 0xff, 1, 2, 3, 4]],
];

const NONE = [
  '',
  '1.2.3',
  '1.2.3.4.5',
  '01.2.3.4',
  '1.2.3.256',
  '1:2',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7:8::',
  '::1%lo',
  '1.2.3.4::',
];

/** Pieces of an address, enough for one or somewhat off. */
function randomText(random: Random): string {
  const pick = (texts: readonly string[]): string => texts[random.below(texts.length)] as string;
  const some = (count: number): string[] => Array.from({ length: count }, () => pick(PIECES.slice(0, 10)));
  const around = (count: number): number => count + [0, 0, 0, -1, 1][random.below(5)]!;
  const four = (): string => Array.from({ length: around(4) }, () => random.below(260)).join('.');
  const groups = random.below(2) === 0 ? around(8) : random.below(8);
  const words = [...some(groups), ...(random.below(4) === 0 ? [four()] : [])];
  if (random.below(2) === 0) words.splice(random.below(words.length + 1), 0, pick(['', ':', '::']));
  const text = random.below(4) === 0 ? four() : words.join(':').replace(/:{3,}/, '::');
  const at = random.below(text.length + 1);
  return random.below(3) === 0 ? text.slice(0, at) + pick(PIECES) + text.slice(at + random.below(2)) : text;
}

test('addresses have the bytes that they name, and what is none is refused', () => {
  for (const [text, bytes] of EXAMPLES) assert.deepEqual([...(parseAddress(text) ?? [])], bytes, text);
  for (const text of NONE) assert.equal(parseAddress(text), undefined, text);
});

test('what is an address and what is none is as Node says', () => {
  const seed = Number(process.env.ADDRESS_SEED ?? Date.now() & 0xffffffff);
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  let [four, six] = [0, 0];
  for (let i = 0; i < TEXTS; i++) {
    const text = randomText(random);
    const bytes = parseAddress(text);
    assert.equal(bytes?.length === 4, isIPv4(text), text);
    assert.equal(bytes?.length === 16, isIPv6(text), text);
    if (bytes?.length === 4) four++;
    if (bytes?.length !== 16) continue;
    six++;
    assert.equal(
      new SocketAddress({ address: formatAddress(bytes), family: 'ipv6' }).address,
      new SocketAddress({ address: text, family: 'ipv6' }).address,
    );
  }
  assert.ok(four > 100 && six > 100, `${four} and ${six} were addresses`);
});
