// The main process's end of the channel to a back end.

import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { socketPair } from '../../src/host/stream-socket.ts';
import { BackendError, BackendLink } from '../../src/virtio/backend-link.ts';

test('what is asked while a link is being closed, and after it, is refused', async () => {
  const [mine, its] = socketPair();
  const link = new BackendLink(mine, { log: () => {}, event: () => {}, interrupt: () => {} });
  // The back end takes its time to close its end.
  const peer = new Socket({ fd: its, allowHalfOpen: true });
  peer.resume();
  const ended = new Promise((resolve) => peer.once('end', resolve));
  const closed = link.close();
  await assert.rejects(link.request({ kind: 'set' }), BackendError);
  await ended;
  peer.end();
  await closed;
  await assert.rejects(link.request({ kind: 'set' }), BackendError);
});
