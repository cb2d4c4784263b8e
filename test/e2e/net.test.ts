// The default guest on the user-mode network, on the built-in processor.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RunningGuest } from './running-guest.ts';

const FILE = randomBytes(4 * 2 ** 20);

/** Status of an HTTP server's answer, and its text. */
async function fetchText(port: number, path: string): Promise<string> {
  const request = get({ host: '127.0.0.1', port, path });
  const [response] = (await once(request, 'response')) as [AsyncIterable<Buffer>];
  let text = '';
  for await (const piece of response) text += piece.toString();
  return text;
}

test('the guest gets an address, reaches what is allowed, and is reached by a published port', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-net-'));
  const log = join(folder, 'log');
  const server = createServer((request, response) => response.end(request.url === '/file' ? FILE : 'hello guest\n'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const published = (probe.address() as AddressInfo).port;
  probe.close();
  const guest = RunningGuest.run(
    ...['--net-allow', `127.0.0.1:${port}`, '--net-log', log, '--publish', `${published}:80`, '-p', 'quiet'],
  );
  try {
    await guest.shell();
    await guest.command('until grep -q 10.0.2.3 /etc/resolv.conf 2>/dev/null; do sleep 1; done');
    assert.match(await guest.command('ip -4 addr show eth0'), /inet 10\.0\.2\.15\/24/);
    assert.match(await guest.command('ping -c 1 10.0.2.2'), / 0% packet loss/);
    assert.match(await guest.command(`wget -q -O - http://10.0.2.2:${port}/`), /hello guest/);
    const sum = await guest.command(`wget -q -O - http://10.0.2.2:${port}/file | sha256sum`);
    assert.equal(sum.slice(0, 64), createHash('sha256').update(FILE).digest('hex'));
    const denied = await guest.command('wget -q -O - http://10.1.2.3/; wget -q -O - http://10.0.2.2:1/');
    assert.equal(denied.match(/refused/g)?.length, 2, denied);
    await guest.command('mkdir /www; echo from the guest >/www/page; httpd -p 80 -h /www');
    assert.equal(await fetchText(published, '/page'), 'from the guest\n');
    guest.send('poweroff\n');
    assert.equal((await guest.end()).status, 0, guest.errors);
    assert.deepEqual(guest.complaints, []);
    const events = readFileSync(log, 'utf8').trim().split('\n');
    const lines = events.map((line) => JSON.parse(line) as Record<string, unknown>);
    const find = (event: string, remote: string): Record<string, unknown> | undefined =>
      lines.find((line) => line['event'] === event && line['remote'] === remote);
    assert.equal(find('deny', '10.1.2.3:80')?.['rule'], 'private network');
    assert.equal(find('deny', '127.0.0.1:1')?.['rule'], 'this host');
    assert.ok(find('open', `127.0.0.1:${port}`));
    assert.ok(lines.some((line) => line['event'] === 'close' && (line['received'] as number) > FILE.length));
    assert.ok(lines.some((line) => line['event'] === 'accept' && line['guest'] === '10.0.2.15:80'));
  } finally {
    await guest.kill();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
