import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, inNetwork, parseAddress, parseNetwork } from '../../src/net/address.ts';
import { Policy, parseRule } from '../../src/net/policy.ts';

function policy(allow: readonly string[], deny: readonly string[] = [], own: readonly string[] = []): Policy {
  const rules = [...allow.map((text) => parseRule(text, true)), ...deny.map((text) => parseRule(text, false))];
  return new Policy(
    rules,
    own.map((text) => parseAddress(text)!),
  );
}

const allows = (one: Policy, address: string, port = 443, ...names: string[]): boolean =>
  one.decide(parseAddress(address)!, port, names).allowed;

test('addresses are read and written', () => {
  for (const [text, written] of [
    ['10.0.2.15', '10.0.2.15'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
  ] as const) {
    assert.equal(formatAddress(parseAddress(text)!), written);
  }
  for (const text of ['', '1.2.3', '1.2.3.256', 'fe80::1%eth0', '1::2::3', 'x'])
    assert.equal(parseAddress(text), undefined);
  const network = parseNetwork('172.16.0.0/12')!;
  assert.ok(inNetwork(network, parseAddress('172.31.255.255')!));
  assert.ok(!inNetwork(network, parseAddress('172.32.0.0')!));
  assert.ok(!inNetwork(network, parseAddress('::1')!));
  assert.equal(parseNetwork('10.0.0.0/33'), undefined);
});

test('without rules the public Internet is allowed, and nothing that is near', () => {
  const none = policy([], [], ['198.51.100.9', '2001:db8:1::9']);
  for (const address of ['1.1.1.1', '2606:4700::1111', '64:ff9b::101:101']) assert.ok(allows(none, address), address);
  for (const address of [
    ...['127.0.0.1', '0.0.0.0', '10.0.0.1', '172.20.0.1', '192.168.1.1', '100.64.0.1', '169.254.169.254', '224.0.0.1'],
    ...['255.255.255.255', '::', '::1', 'fe80::1', 'fd00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:7f00:1'],
    ...['64:ff9b::a00:1', '64:ff9b::7f00:1', '2002:7f00:1::', '168.63.129.16', '198.51.100.9', '2001:db8:1::9'],
  ]) {
    assert.ok(!allows(none, address), address);
  }
});

test('who allows something allows nothing else', () => {
  const one = policy(['10.1.0.0/16:80', '*.example.com']);
  assert.ok(allows(one, '10.1.2.3', 80));
  assert.ok(!allows(one, '10.1.2.3', 81));
  assert.ok(!allows(one, '1.1.1.1'));
  assert.ok(allows(one, '1.1.1.1', 443, 'www.example.com'));
  assert.ok(!allows(one, '1.1.1.1', 443, 'example.com'));
  assert.ok(!allows(one, '1.1.1.1', 443, 'www.example.com.evil.test'));
  assert.ok(!allows(one, '1.1.1.1', 443, 'notexample.com'));
  assert.ok(one.decideName('a.b.example.com').allowed);
  assert.ok(!one.decideName('other.test').allowed);
  const star = policy(['*', '127.0.0.1:5432']);
  assert.ok(allows(star, '1.1.1.1') && allows(star, '127.0.0.1', 5432));
  assert.ok(!allows(star, '127.0.0.1', 22) && !allows(star, '10.0.0.1'));
});

test('a name does not open what its network closes: no rebinding', () => {
  const one = policy(['inside.example.com']);
  for (const address of ['10.0.0.1', '127.0.0.1', '169.254.169.254', 'fd00::1']) {
    assert.ok(!allows(one, address, 80, 'inside.example.com'), address);
    assert.ok(one.hides(parseAddress(address)!));
  }
  const both = policy(['inside.example.com', '10.0.0.0/8']);
  assert.ok(allows(both, '10.0.0.1', 80, 'inside.example.com'));
  assert.ok(!both.hides(parseAddress('10.0.0.1')!));
});

test('the most specific rule counts, and of equals the denial', () => {
  const one = policy(['10.0.0.0/8', '10.1.1.1', '169.254.0.0/16', '*'], ['10.1.0.0/16', '1.0.0.0/8', '1.0.0.0/8:80']);
  assert.ok(allows(one, '10.2.0.1') && allows(one, '10.1.1.1'));
  assert.ok(!allows(one, '10.1.1.2') && !allows(one, '1.1.1.1'));
  assert.ok(allows(one, '169.254.0.1'));
  assert.ok(!allows(one, '169.254.169.254'), 'metadata must be named itself');
  assert.ok(!allows(policy(['10.0.0.1'], ['10.0.0.1']), '10.0.0.1'));
  const names = policy(['*.example.com', '*'], ['bad.example.com', '*:25']);
  assert.ok(!names.decideName('bad.example.com').allowed && names.decideName('good.example.com').allowed);
  assert.ok(!allows(names, '1.1.1.1', 443, 'bad.example.com') && !allows(names, '1.1.1.1', 25));
});

test('rules that are none are told', () => {
  for (const text of [
    '',
    'a b',
    '10.0.0.0/40',
    '10.0.0.1:0',
    '10.0.0.1:9-8',
    'x:70000',
    '1.2.3',
    'foo..bar',
    '*.',
    'é.test',
  ]) {
    assert.throws(() => parseRule(text, true), Error, text);
  }
  for (const text of ['Example.COM.', '*:80-90', '[fd00::]/8:443', 'fd00::/8', '[::1]:80', '*', ':22', '_dns.test:53'])
    parseRule(text, false);
});
