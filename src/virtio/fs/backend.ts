import type { SharedDirectory } from '../../fs/shared-directory.ts';
import type { BackendFactory } from '../backend.ts';
import { fileBackend, openServer } from '../file-backend.ts';
import { FuseSession } from './session.ts';

/** Serves a directory by virtio-fs. */
export const create: BackendFactory = ({ loop, params }) => {
  const { protocol } = params as unknown as SharedDirectory;
  const cache = protocol.type === 'fs' ? protocol.cache : 'auto';
  return fileBackend(new FuseSession(openServer(params), cache, loop));
};
