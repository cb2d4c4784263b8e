import type { BackendFactory } from './backend.ts';

/** The devices' back ends by name: each is loaded only where it runs. A jailed one has a bundle of its own. */
export const BACKENDS: Readonly<Record<string, () => Promise<{ readonly create: BackendFactory }>>> = {
  balloon: () => import('./balloon/backend.ts'),
  block: () => import('./block/backend.ts'),
  console: () => import('./console/backend.ts'),
  fs: () => import('./fs/backend.ts'),
  net: () => import('./net/tap-backend.ts'),
  net_user: () => import('./net/user-backend.ts'),
  p9: () => import('./p9/backend.ts'),
  rng: () => import('./rng/backend.ts'),
  vhost_net: () => import('./net/vhost-backend.ts'),
  vhost_vsock: () => import('./vsock/vhost-backend.ts'),
  vsock: () => import('./vsock/backend.ts'),
};

/** The maker of a device's back end. Rejects with Error: there is none of that name. */
export async function loadBackend(device: string): Promise<BackendFactory> {
  const load = BACKENDS[device];
  if (load === undefined) throw new Error(`there is no device ${device}`);
  return (await load()).create;
}
