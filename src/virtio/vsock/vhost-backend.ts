/** The socket device in the kernel: this process only sets it up. */
import { check } from '../../host/ffi.ts';
import { ioctl } from '../../host/ioctl.ts';
import type { Backend, BackendHost, Session } from '../backend.ts';
import * as I from '../vhost/ioctls.ts';
import { RING_FEATURES } from '../vhost/open.ts';
import { VhostRings } from '../vhost/rings.ts';
import * as C from './constants.ts';

export function create(host: BackendHost): Backend {
  const [fd, ...calls] = host.fds as [number, ...number[]];
  const rings = new VhostRings(host, { fd, first: C.RECEIVE, calls });
  const setRunning = (running: boolean): void => {
    const { name, number } = I.VHOST_VSOCK_SET_RUNNING;
    check(name, ioctl(fd, number, Int32Array.of(running ? 1 : 0)));
  };
  return {
    kernelQueues: rings.queues,
    start: (session: Session) => {
      if (rings.start(session, session.features & RING_FEATURES)) setRunning(true);
    },
    reset: () => setRunning(false),
  };
}
