/** Both protocols, for tests that are the same on each. */

import { connectFuse } from '../virtio/fs/client.ts';
import { connectP9 } from '../virtio/p9/client.ts';
import type { Connect, TestClient } from './client.ts';

export const PROTOCOLS: Readonly<Record<string, Connect<TestClient>>> = { '9P': connectP9, FUSE: connectFuse };
