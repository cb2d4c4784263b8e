// The user network against the network code of Linux, in a namespace.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestNamespace, HostNamespace, namespacesMissing } from './namespace.ts';
import { answerTo, startResolver, type TestResolver } from './resolver.ts';

const skip = namespacesMissing();
const RESOLVER = '127.0.0.53';

/** A server on the host's loopback that handles each connection with `serve`. */
async function serverOn(address: string, serve: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  server.listen(0, address);
  await once(server, 'listening');
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

/** A port of the loopback that nobody listens on. */
async function freePort(): Promise<number> {
  const server = await serverOn('127.0.0.1', () => {});
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** All that comes until the end. */
async function readAll(socket: Socket): Promise<Buffer> {
  // An iterator would destroy the socket at the end, and there may be an answer to send.
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  socket.resume();
  await once(socket, 'end');
  return Buffer.concat(pieces);
}

describe('a Linux guest', { skip, concurrency: false }, () => {
  let guest: GuestNamespace;
  let resolver: TestResolver;
  let published: { tcp: number; udp: number };

  before(async () => {
    resolver = await startResolver(RESOLVER, {
      'web.test': answerTo('127.0.0.1'),
      'inside.test': answerTo('10.1.2.3'),
      'big.test': answerTo(...Array.from({ length: 60 }, (_, i) => `127.0.1.${i + 1}`)),
    });
    published = { tcp: await freePort(), udp: await freePort() };
    guest = await GuestNamespace.start({
      allow: ['127.0.0.1', '::1', '*.test', '127.0.1.0/24:80'],
      deny: ['secret.test', '127.0.0.1:9'],
      nameServers: [RESOLVER],
      published: [
        { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: published.tcp, guestPort: 80 },
        { protocol: 'udp', hostAddress: '127.0.0.1', hostPort: published.udp, guestPort: 5000 },
      ],
    });
  });
  after(async () => {
    await guest?.stop();
    await resolver?.stop();
  });

  test('gets a lease, a route and a name server', () => {
    assert.equal(guest.lease, '10.0.2.15/24 10.0.2.2 10.0.2.3 1500');
  });

  test('pings the gateway, in fragments too, on IPv4 and IPv6', async () => {
    for (const args of [['10.0.2.2'], ['-s', '4000', '10.0.2.3'], ['fd76:6976:6172::2'], ['-s', '4000', 'fe80::2']]) {
      const { status, output } = await guest.run('ping', '-c', '1', '-W', '5', ...args);
      assert.equal(status, 0, output);
    }
  });

  test('sends and receives megabytes unchanged, and each side ends its half by itself', async () => {
    const data = randomBytes(12 * 2 ** 20);
    for (const [address, gateway] of [
      ['127.0.0.1', '10.0.2.2'],
      ['::1', 'fd76:6976:6172::2'],
    ] as const) {
      // Says what it got only after the guest's end has come: a half-closed connection.
      const server = await serverOn(address, async (socket) => {
        const got = await readAll(socket);
        socket.end(`${sha256(got)}\n`);
      });
      const sender = guest.spawn('nc', '-N', gateway, String(portOf(server)));
      sender.stdin?.end(data);
      const [answer] = (await once(sender.stdout!, 'data')) as [Buffer];
      assert.equal(answer.toString(), `${sha256(data)}\n`);
      server.close();

      const giver = await serverOn(address, (socket) => socket.end(data));
      const taker = guest.spawn('sh', '-c', `nc -d ${gateway} ${portOf(giver)} | sha256sum`);
      const [sum] = (await once(taker.stdout!, 'data')) as [Buffer];
      assert.equal(sum.toString().slice(0, 64), sha256(data));
      giver.close();
    }
  });

  test('a guest that does not read stops the host, and goes on later', async () => {
    const data = randomBytes(6 * 2 ** 20);
    const giver = await serverOn('127.0.0.1', (socket) => socket.end(data));
    const slow = guest.spawn('sh', '-c', `nc -d 10.0.2.2 ${portOf(giver)} | (sleep 2; sha256sum)`);
    const [sum] = (await once(slow.stdout!, 'data')) as [Buffer];
    assert.equal(sum.toString().slice(0, 64), sha256(data));
    giver.close();
  });

  test('a host that does not read stops the guest, and goes on later', async () => {
    const data = randomBytes(8 * 2 ** 20);
    const server = await serverOn('127.0.0.1', async (socket) => {
      socket.pause();
      await sleep(1500);
      socket.end(sha256(await readAll(socket)));
    });
    const sender = guest.spawn('nc', '-N', '10.0.2.2', String(portOf(server)));
    sender.stdin?.end(data);
    const [answer] = (await once(sender.stdout!, 'data')) as [Buffer];
    assert.equal(answer.toString(), sha256(data));
    server.close();
  });

  test('a refused connection is refused to the guest, a reset one is reset', async () => {
    const refused = await guest.run('nc', '-v', '-w', '5', '10.0.2.2', String(await freePort()));
    assert.match(refused.errors, /refused/);
    await guest.logged({ event: 'fail', error: 'ECONNREFUSED' });
    const server = await serverOn('127.0.0.1', (socket) => {
      socket.once('data', () => socket.resetAndDestroy());
    });
    const reset = await guest.run('curl', '-sS', '-m', '5', `http://10.0.2.2:${portOf(server)}/`);
    assert.match(reset.errors, /reset by peer/i);
    server.close();
  });

  test('the guest resets a connection, and the host learns it', async () => {
    const failed = Promise.withResolvers<string>();
    const server = await serverOn('127.0.0.1', (socket) => {
      socket.on('error', (error: NodeJS.ErrnoException) => failed.resolve(error.code ?? ''));
      socket.on('data', () => {});
    });
    const script = `import socket,struct
s=socket.create_connection(("10.0.2.2",${portOf(server)}))
s.send(b"x")
s.setsockopt(socket.SOL_SOCKET,socket.SO_LINGER,struct.pack("ii",1,0))
s.close()`;
    await guest.run('python3', '-c', script);
    assert.equal(await failed.promise, 'ECONNRESET');
    server.close();
  });

  test('a published port leads into the guest, and its connections to the gateway', async () => {
    const script = `import socket
l=socket.create_server(("",80))
print("ready",flush=True)
s,peer=l.accept()
d=b""
while True:
  p=s.recv(65536)
  if not p: break
  d+=p
s.sendall(peer[0].encode()+b" "+d)`;
    const listener = guest.spawn('python3', '-c', script);
    await once(listener.stdout!, 'data');
    const socket = connect({ port: published.tcp, host: '127.0.0.1', allowHalfOpen: true });
    socket.end('hello guest');
    assert.equal((await readAll(socket)).toString(), '10.0.2.2 hello guest');
    await guest.logged({ event: 'accept', protocol: 'tcp', guest: '10.0.2.15:80' });
  });

  test('a published port that the guest does not listen on resets', async () => {
    const socket = connect(published.tcp, '127.0.0.1');
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
  });

  test('datagrams go both ways, small and in fragments, and to a published port', async () => {
    const echo = createSocket('udp4').bind(0, '127.0.0.1');
    await once(echo, 'listening');
    echo.on('message', (message, peer) => echo.send(message, peer.port, peer.address));
    const script = `import socket,os,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.settimeout(10)
s.connect(("10.0.2.2",${echo.address().port}))
for n in (0,1,1400,9000,65507):
  d=os.urandom(n)
  s.send(d)
  assert s.recv(70000)==d, n
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(("0.0.0.0",5000))
print("ready",flush=True)
for i in range(2):
  d,peer=s.recvfrom(70000)
  s.sendto(d[::-1],peer)
  print(peer[0],flush=True)`;
    const child = guest.spawn('python3', '-c', script);
    await once(child.stdout!, 'data');
    let peers = '';
    child.stdout!.on('data', (text) => {
      peers += text;
    });
    for (const text of ['one', 'two']) {
      const client = createSocket('udp4');
      client.send(text, published.udp, '127.0.0.1');
      const [answer] = (await once(client, 'message')) as [Buffer];
      assert.equal(answer.toString(), [...text].reverse().join(''));
      client.close();
    }
    await once(child, 'close');
    assert.equal(peers.trim(), '10.0.2.2\n10.0.2.2');
    echo.close();
  });

  test('a datagram to a closed port is answered by ICMP', async () => {
    const script = `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(("10.0.2.2",${await freePort()}))
s.send(b"x")
try: s.recv(10)
except ConnectionRefusedError: print("refused")`;
    assert.equal((await guest.run('python3', '-c', script)).output, 'refused\n');
  });

  test('names are asked of the resolver, and long answers come by TCP', async () => {
    assert.equal((await guest.run('dig', '+short', '@10.0.2.3', 'WEB.test')).output, '127.0.0.1\n');
    assert.equal((await guest.run('dig', '+short', '@fd76:6976:6172::3', 'web.test')).output, '127.0.0.1\n');
    const big = await guest.run('dig', '+short', '+noedns', '@10.0.2.3', 'big.test');
    assert.equal(big.output.trim().split('\n').length, 60);
    assert.ok(resolver.streams > 0);
  });

  test('names that are not allowed are refused, and so are answers that lead inside', async () => {
    const asked = resolver.questions.length;
    for (const name of ['secret.test', 'elsewhere.example', 'localhost']) {
      assert.match((await guest.run('dig', '@10.0.2.3', name)).output, /status: REFUSED/);
      await guest.logged({ event: 'refuse', name });
    }
    assert.equal(resolver.questions.length, asked);
    assert.match((await guest.run('dig', '@10.0.2.3', 'inside.test')).output, /status: REFUSED/);
  });

  test('what the policy denies is refused and logged', async () => {
    for (const [address, rule] of [
      ['10.1.2.3', 'private network'],
      ['169.254.169.254', 'metadata service'],
      ['192.168.0.1', 'private network'],
      ['203.0.113.7', 'not allowed by any rule'],
    ] as const) {
      const { errors } = await guest.run('nc', '-v', '-w', '5', address, '443');
      assert.match(errors, /refused/);
      await guest.logged({ event: 'deny', protocol: 'tcp', remote: `${address}:443`, rule });
    }
    await guest.run('nc', '-v', '-w', '5', '10.0.2.2', '9');
    await guest.logged({ event: 'deny', remote: '127.0.0.1:9', rule: '127.0.0.1:9' });
    const ping = await guest.run('ping', '-c', '1', '-W', '5', '10.1.2.3');
    assert.match(ping.output, /Packet filtered/);
  });

  test('spoofed sources are not answered', async () => {
    await guest.run('ip', 'addr', 'add', '10.9.9.9/32', 'dev', 'lo');
    const { status } = await guest.run('ping', '-c', '1', '-W', '1', '-I', '10.9.9.9', '10.0.2.2');
    assert.equal(status, 1);
  });

  test('two hundred connections at once', async () => {
    const server = await serverOn('127.0.0.1', (socket) => socket.pipe(socket));
    const script = `import socket,selectors
ss=[socket.create_connection(("10.0.2.2",${portOf(server)})) for _ in range(200)]
for i,s in enumerate(ss): s.sendall(b"%d\\n"%i*1000)
for i,s in enumerate(ss):
  s.shutdown(socket.SHUT_WR)
  d=b""
  while True:
    p=s.recv(65536)
    if not p: break
    d+=p
  assert d==b"%d\\n"%i*1000
print("all")`;
    const { output, errors } = await guest.run('python3', '-c', script);
    assert.equal(output, 'all\n', errors);
    server.close();
  });
});

describe('a Linux guest without offloads, on a way that loses frames', { skip }, () => {
  test('gets every byte', async () => {
    const data = randomBytes(2 ** 17);
    const guest = await GuestNamespace.start({ allow: ['127.0.0.1'] }, { offloads: false, loss: 37 });
    const giver = await serverOn('127.0.0.1', (socket) => socket.end(data));
    const server = await serverOn('127.0.0.1', async (socket) => socket.end(sha256(await readAll(socket))));
    try {
      const { output } = await guest.run('sh', '-c', `nc -d 10.0.2.2 ${portOf(giver)} | sha256sum`);
      assert.equal(output.slice(0, 64), sha256(data));
      const sender = guest.spawn('nc', '-N', '10.0.2.2', String(portOf(server)));
      sender.stdin?.end(data);
      const [answer] = (await once(sender.stdout!, 'data')) as [Buffer];
      assert.equal(answer.toString(), sha256(data));
    } finally {
      giver.close();
      server.close();
      await guest.stop();
    }
  });
});

describe("a host's network that goes down", { skip }, () => {
  test('is told to the guest, who goes on when it is back', async (t) => {
    const address = '198.51.100.1';
    const host = new HostNamespace([`${address}/32`], { pings: true });
    t.after(() => host.remove());
    const guest = await GuestNamespace.start({ allow: ['198.51.100.0/24'] }, {}, host);
    t.after(() => guest.stop());
    const server = spawn('ip', ['netns', 'exec', host.name, 'nc', '-k', '-l', address, '80'], { stdio: 'pipe' });
    t.after(() => server.kill());
    const dial = () => guest.run('nc', '-z', '-v', '-w', '5', address, '80');
    const up = async (): Promise<void> => {
      for (let left = 50; (await dial()).status !== 0; left--) assert.ok(left > 0, 'nobody answers');
    };
    await up();
    host.run('ip', 'addr', 'del', `${address}/32`, 'dev', 'lo');
    assert.match((await dial()).errors, /unreachable/i);
    const datagram = `import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('${address}', 80))`;
    assert.equal((await guest.run('python3', '-c', datagram)).status, 0);
    assert.match((await guest.run('ping', '-c', '1', '-W', '5', address)).output, /Unreachable/);
    for (const protocol of ['tcp', 'udp', 'icmp'])
      await guest.logged({ event: 'fail', protocol, error: 'ENETUNREACH' });
    host.run('ip', 'addr', 'add', `${address}/32`, 'dev', 'lo');
    await up();
    assert.equal((await guest.run('ping', '-c', '1', '-W', '5', address)).status, 0);
  });
});

describe('pings of others', { skip }, () => {
  const addresses = ['198.51.100.1/32', '2001:db8::1/128'];
  const allow = ['198.51.100.0/24', '[2001:db8::]/32'];

  test('go by the sockets of the host', async (t) => {
    const host = new HostNamespace(addresses, { pings: true });
    t.after(() => host.remove());
    const guest = await GuestNamespace.start({ allow, deny: ['198.51.100.2'] }, {}, host);
    t.after(() => guest.stop());
    for (const [address, ...args] of [
      ['198.51.100.1', '-c', '3', '-i', '0.2'],
      ['198.51.100.1', '-c', '1', '-s', '4000'],
      ['2001:db8::1', '-c', '2', '-i', '0.2'],
    ] as const) {
      const { status, output } = await guest.run('ping', ...args, '-W', '5', address);
      assert.equal(status, 0, output);
      assert.match(output, new RegExp(`from ${address}: icmp_seq=1 `));
      await guest.logged({ event: 'open', protocol: 'icmp', remote: address });
    }
    // Two at once have an identifier each.
    const both = await Promise.all(
      [1, 2].map(() => guest.run('ping', '-c', '3', '-i', '0.2', '-W', '5', '198.51.100.1')),
    );
    for (const { output } of both) assert.match(output, /3 received/);
    // Allowed, and nobody has that address: the host has no way there.
    const nobody = await guest.run('ping', '-c', '1', '-W', '5', '198.51.100.9');
    assert.match(nobody.output, /Net Unreachable/);
    await guest.logged({ event: 'fail', protocol: 'icmp', remote: '198.51.100.9', error: 'ENETUNREACH' });
    for (const address of ['198.51.100.2', '203.0.113.7']) {
      const { output } = await guest.run('ping', '-c', '1', '-W', '5', address);
      assert.match(output, /Packet filtered/);
      await guest.logged({ event: 'deny', protocol: 'icmp', remote: address });
    }
  });

  test('are refused where the host gives no such sockets', async (t) => {
    const host = new HostNamespace(addresses, { pings: false });
    t.after(() => host.remove());
    const guest = await GuestNamespace.start({ allow }, {}, host);
    t.after(() => guest.stop());
    const { status, output } = await guest.run('ping', '-c', '1', '-W', '5', '198.51.100.1');
    assert.equal(status, 1);
    assert.match(output, /Packet filtered/);
    await guest.logged({ event: 'fail', protocol: 'icmp', remote: '198.51.100.1', error: 'EACCES' });
  });
});
