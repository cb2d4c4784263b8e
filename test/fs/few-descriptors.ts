// Run with few descriptors: a client that has half of them open, and knows more files than the other half. What it has open counts for
// more than what it only knows.
import assert from 'node:assert/strict';
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { descriptorLimit } from '../../src/host/files.ts';
import { type Handle, O_RDWR, type Ref, serve, use, walk } from './client.ts';
import { PROTOCOLS } from './protocols.ts';

const SPARE = 16;

for (const connect of Object.values(PROTOCOLS)) {
  use(serve(connect), ({ client, path, server }) => {
    const limit = descriptorLimit();
    const names = Array.from({ length: limit }, (_, i) => `file-${i}`);
    for (const name of names) writeFileSync(join(path, name), name);
    client.makeDirectory(client.root, 'deep', 0o700);
    const deep = walk(client, 'deep');
    client.makeDirectory(deep, 'below', 0o700);
    const below = client.lookup(deep, 'below');
    client.makeDirectory(client.root, 'far', 0o700);
    const far = walk(client, 'far');
    client.makeDirectory(far, 'away', 0o700);
    const away = client.lookup(far, 'away');
    const refs: Ref[] = names.map((name) => client.lookup(client.root, name));
    const handles: Handle[] = [];
    const room = limit - readdirSync('/proc/self/fd').length + limit / 2 - SPARE;
    for (const ref of refs.slice(0, room)) handles.push(client.open(ref, O_RDWR));
    assert.equal(server.openCount, room);

    // All else goes on.
    const last = refs.at(-1)!;
    assert.equal(client.lock(handles[0]!, { type: 'write', owner: 1 }), true);
    assert.equal(client.attributes(last).size, names.at(-1)!.length);
    client.rename(client.root, names.at(-1)!, below, 'moved');
    client.link(last, deep, 'linked');
    client.setAttributes(last, { size: 3 });
    assert.deepEqual(client.list(deep), ['below', 'linked']);
    handles.push(client.create(below, 'made', O_RDWR, 0o600));
    assert.equal(client.write(handles.at(-1)!, 0, Buffer.from('made')), 4);
    for (const [i, handle] of handles.slice(0, room).entries()) {
      assert.equal(client.read(handle, 0, 100).toString(), names[i]);
    }

    // With all of them open nothing else is, until one is closed; and what the host moves meanwhile is not found.
    const fill = (): void => {
      for (const ref of refs.slice(room)) handles.push(client.open(ref, O_RDWR));
    };
    assert.throws(fill, { code: 'EMFILE' });
    // Two directories at once, with room for them and for what is above one of them.
    for (const handle of handles.splice(-3)) client.close(handle);
    for (let i = 0; i < 4; i++) {
      client.rename(below, 'moved', away, 'moved');
      client.rename(away, 'moved', below, 'moved');
      client.link(last, away, 'linked');
      client.remove(away, 'linked', false);
    }
    for (const handle of handles.splice(3 - SPARE)) client.close(handle);
    assert.equal(client.read(handles[0]!, 0, 100).toString(), names[0]);
    renameSync(join(path, names.at(-2)!), join(path, 'elsewhere'));
    assert.throws(() => client.open(refs.at(-2)!, O_RDWR), { code: 'ESTALE' });
    client.close(client.open(last, O_RDWR));

    for (const handle of handles) client.close(handle);
    for (const ref of [...refs, deep, below, far, away]) client.forget(ref);
  });
}
