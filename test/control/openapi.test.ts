// docs/openapi.json and the control socket say the same: every path, method and kind of answer.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import { ROUTES } from '../../src/control/requests.ts';
import { ControlServer } from '../../src/control/server.ts';
import { exchange, type Reply } from './exchange.ts';
import { FakeMachine } from './fake-machine.ts';

interface Operation {
  readonly requestBody?: { readonly required: boolean };
  readonly responses: Readonly<Record<string, { readonly content: Readonly<Record<string, unknown>> }>>;
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

const document = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')) as Document;
const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addSchema(document, 'api');
/** Answers that were seen: "GET /machine 200". */
const seen = new Set<string>();

const folder = mkdtempSync(join(tmpdir(), 'vivarium-api-'));
let machine: FakeMachine;
let bare: FakeMachine;
let servers: ControlServer[] = [];

before(() => {
  machine = new FakeMachine();
  bare = new FakeMachine({ bare: true });
  servers = [machine, bare].map((each, i) => {
    const server = new ControlServer(join(folder, `${i}`));
    server.serve(each);
    return server;
  });
});
after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

const pointer = (...parts: readonly string[]): string =>
  `api#/${parts.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`;

function validate(schema: string, value: unknown, what: string): void {
  const check = ajv.getSchema(schema);
  assert.ok(check, `the document has no ${schema}`);
  assert.ok(check(value), `${what}: ${ajv.errorsText(check.errors)}: ${JSON.stringify(value)}`);
}

/** Sends a request to the n-th machine, and holds the answer against the document. */
async function ask(n: number, method: string, template: string, path: string, body?: unknown): Promise<Reply> {
  const text = body === undefined || typeof body === 'string' ? (body as string | undefined) : JSON.stringify(body);
  const reply = await exchange(join(folder, `${n}`), method, path, text);
  const what = `${method} ${template} ${reply.status}`;
  const operations = document.paths[template]!;
  // 405 is an answer to a method that the path does not have: that of any other describes it.
  const name =
    method.toLowerCase() in operations
      ? method.toLowerCase()
      : Object.keys(operations).find((key) => key !== 'parameters')!;
  const response = operations[name]!.responses[reply.status];
  assert.ok(response, `${what} is not in the document: ${reply.text}`);
  seen.add(what);
  const [type] = reply.type.split(';');
  assert.deepEqual(Object.keys(response.content), [type], what);
  if (type === 'application/json') {
    const place = ['paths', template, name, 'responses', String(reply.status), 'content', type, 'schema'];
    validate(pointer(...place), JSON.parse(reply.text), what);
  }
  return reply;
}

test('the document and the server have the same paths and methods', () => {
  const described = Object.entries(document.paths).map(([path, operations]) => [
    path,
    Object.keys(operations)
      .filter((key) => key !== 'parameters')
      .map((method) => method.toUpperCase()),
  ]);
  assert.deepEqual(
    described,
    ROUTES.map(({ path, methods }) => [path, Object.keys(methods)]),
  );
});

test('every path is answered as the document says', async () => {
  await ask(0, 'GET', '/machine', '/machine');
  await ask(0, 'GET', '/machine/memory', '/machine/memory');
  assert.equal(JSON.parse((await ask(0, 'POST', '/machine/pause', '/machine/pause')).text).state, 'paused');
  assert.equal(JSON.parse((await ask(0, 'POST', '/machine/resume', '/machine/resume', {})).text).state, 'running');
  await ask(0, 'GET', '/disks', '/disks');
  await ask(1, 'GET', '/disks', '/disks');
  await ask(0, 'GET', '/disks/{name}', '/disks/vdb');
  await ask(1, 'GET', '/disks/{name}', '/disks/vdb');
  assert.equal(
    JSON.parse((await ask(0, 'PATCH', '/disks/{name}', '/disks/vda', { size: 2 ** 24 })).text).size,
    2 ** 24,
  );
  assert.equal((await ask(0, 'PATCH', '/disks/{name}', '/disks/vda', { size: 512 })).status, 409);
  assert.equal((await ask(1, 'PATCH', '/disks/{name}', '/disks/vda', { size: 512 })).status, 404);
  await ask(0, 'GET', '/balloon', '/balloon');
  assert.equal(JSON.parse((await ask(0, 'PUT', '/balloon', '/balloon', { size: 2 ** 26 })).text).size, 2 ** 26);
  assert.equal(
    JSON.parse((await ask(0, 'PATCH', '/balloon', '/balloon', { adjust: -4096 })).text).size,
    2 ** 26 - 4096,
  );
  assert.equal(JSON.parse((await ask(0, 'PATCH', '/balloon', '/balloon', { adjust: -(2 ** 40) })).text).size, 0);
  assert.equal(JSON.parse((await ask(0, 'PATCH', '/balloon', '/balloon', { adjust: 2 ** 40 })).text).size, 2 ** 27);
  for (const method of ['GET', 'PUT', 'PATCH']) {
    const body = { PUT: { size: 0 }, PATCH: { adjust: 0 } }[method];
    assert.equal((await ask(1, method, '/balloon', '/balloon', body)).status, 404);
  }
  assert.equal(JSON.parse((await ask(0, 'POST', '/balloon/reclaim', '/balloon/reclaim')).text).size, 20 * 2 ** 20);
  assert.equal((await ask(1, 'POST', '/balloon/reclaim', '/balloon/reclaim')).status, 404);
  for (const n of [0, 1]) {
    await ask(n, 'GET', '/statistics', '/statistics');
    await ask(n, 'GET', '/metrics', '/metrics?format=text');
  }
  assert.equal((await ask(1, 'POST', '/machine/exit', '/machine/exit')).status, 202);
  assert.equal(bare.exits, 1);
  bare.state = 'ending';
  for (const path of ['/machine/pause', '/machine/resume'])
    assert.equal((await ask(1, 'POST', path, path)).status, 409);
  machine.state = 'ending';
  assert.equal((await ask(0, 'PUT', '/balloon', '/balloon', { size: 0 })).status, 409);
  assert.equal((await ask(0, 'PATCH', '/balloon', '/balloon', { adjust: 0 })).status, 409);
  assert.equal((await ask(0, 'POST', '/balloon/reclaim', '/balloon/reclaim')).status, 409);
  machine.state = 'running';
});

test('bodies that the document forbids are refused, and name what is wrong', async () => {
  const wrong: readonly [method: string, template: string, path: string, body: unknown, message: RegExp][] = [
    ['PUT', '/balloon', '/balloon', undefined, /^size: it takes a whole number/],
    ['PUT', '/balloon', '/balloon', { size: '1' }, /^size: it takes a whole number/],
    ['PUT', '/balloon', '/balloon', { size: 1.5 }, /^size/],
    ['PUT', '/balloon', '/balloon', { size: 1 }, /^size: it takes a multiple of 4096/],
    ['PUT', '/balloon', '/balloon', { size: -4096 }, /^size/],
    ['PUT', '/balloon', '/balloon', { size: 2 ** 30 }, /134217728 bytes at most/],
    ['PUT', '/balloon', '/balloon', { size: 0, more: 1 }, /^more: there is no such field/],
    ['PUT', '/balloon', '/balloon', '{"size":0,"__proto__":{}}', /^__proto__: there is no such field/],
    ['PUT', '/balloon', '/balloon', [0], /no JSON object/],
    ['PUT', '/balloon', '/balloon', 'null', /no JSON object/],
    ['PUT', '/balloon', '/balloon', '{"size":', /no JSON/],
    ['PATCH', '/balloon', '/balloon', { adjust: 1 }, /^adjust: it takes a multiple/],
    ['PATCH', '/balloon', '/balloon', { size: 0 }, /^size: there is no such field/],
    ['POST', '/balloon/reclaim', '/balloon/reclaim', { size: 0 }, /^size: there is no such field/],
    ['PATCH', '/disks/{name}', '/disks/vda', { size: 0 }, /^size: a disk has at least/],
    ['PATCH', '/disks/{name}', '/disks/vda', { size: 513 }, /^size: it takes a multiple of 512/],
    ['POST', '/machine/pause', '/machine/pause', { now: true }, /^now: there is no such field/],
    ['POST', '/machine/resume', '/machine/resume', '[]', /no JSON object/],
    ['POST', '/machine/exit', '/machine/exit', '1', /no JSON object/],
  ];
  const before = JSON.stringify(machine);
  for (const [method, template, path, body, message] of wrong) {
    const reply = await ask(0, method, template, path, body);
    assert.equal(reply.status, 400, `${method} ${path} ${JSON.stringify(body)}`);
    assert.match(JSON.parse(reply.text).error, message);
  }
  assert.equal(JSON.stringify(machine), before);
});

test('methods that a path does not have, long bodies and unknown paths are refused', async () => {
  for (const { path, methods } of ROUTES) {
    const actual = path.replace('{name}', 'vda');
    const reply = await ask(0, 'DELETE', path, actual);
    assert.equal(reply.status, 405);
    assert.equal(reply.allow, Object.keys(methods).join(', '));
    for (const method of Object.keys(methods)) {
      const long = await ask(0, method, path, actual, 'x'.repeat(100_000));
      assert.equal(long.status, 413, `${method} ${path}`);
    }
  }
  for (const path of [
    '/',
    '/machines',
    '/machine/',
    '//machine',
    '/disks/',
    '/disks/a/b',
    '/__proto__',
    '/constructor',
    '*',
  ]) {
    const reply = await exchange(join(folder, '0'), 'GET', path);
    assert.equal(reply.status, 404, path);
    validate('api#/components/schemas/Error', JSON.parse(reply.text), path);
  }
});

test('every answer that the document describes was seen', () => {
  const described = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations)
      .filter(([method]) => method !== 'parameters')
      .flatMap(([method, { responses }]) =>
        Object.keys(responses).map((status) => `${method.toUpperCase()} ${path} ${status}`),
      ),
  );
  // Answers of every path alike: 405 was seen by a method that none has, 400 where there is a body to be wrong.
  const unseen = described.filter((what) => !seen.has(what) && !what.endsWith(' 405') && !/^GET .* 400$/.test(what));
  assert.deepEqual(unseen, []);
});
