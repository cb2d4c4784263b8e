import { Worker } from 'node:worker_threads';

/** Waits for irqfds in a thread of its own and raises their lines (KVM_IRQFD): filled in with host/epoll.ts. */
export class IrqfdWatcher {
  constructor(_raise: (gsi: number) => void) {
    void Worker;
  }
  add(_fd: number, _gsi: number): void {
    throw new RangeError('irqfd is not there yet');
  }
  remove(_fd: number, _gsi: number): void {}
  close(): void {}
}
