import type { BackendFactory } from '../backend.ts';
import { fileBackend, openServer } from '../file-backend.ts';
import { P9Session } from './session.ts';

/** Serves a directory by 9P2000.L. */
export const create: BackendFactory = ({ loop, params }) => fileBackend(new P9Session(openServer(params), loop));
