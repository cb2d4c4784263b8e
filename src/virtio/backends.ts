import type { BackendFactory } from './backend.ts';

/** The devices' back ends by name: each is loaded only where it runs. */
export const BACKENDS: Readonly<Record<string, () => Promise<{ readonly create: BackendFactory }>>> = {
  rng: () => import('./rng/backend.ts'),
};
