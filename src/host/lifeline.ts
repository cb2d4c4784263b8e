/** Another process that does not outlive this one: fcntl(2), "Managing signals". */
import { constants } from 'node:os';
import { closeDescriptor } from './descriptor.ts';
import { check, libc } from './ffi.ts';
import { messageSocketPair } from './unix-socket.ts';

const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const O_ASYNC = 0x2000;

const fcntl = libc('int fcntl(int fd, int cmd, ...)', ['int']);

/**
 * A socket of which this process has one end and the other process the other: the kernel ends that process when ours is closed, however this
 * one ends. PR_SET_PDEATHSIG does so too, but the process must ask for it itself.
 */
export class Lifeline {
  readonly #mine: number;
  /** For the other process, which is to keep it. */
  readonly its: number;

  constructor() {
    [this.#mine, this.its] = messageSocketPair();
  }

  /** From now on; the process is this user's. Throws OsError. */
  tie(pid: number): void {
    check('fcntl', fcntl(this.its, F_SETOWN, pid));
    check('fcntl', fcntl(this.its, F_SETSIG, constants.signals.SIGKILL));
    check('fcntl', fcntl(this.its, F_SETFL, O_ASYNC));
  }

  /** When the other process has ended. */
  close(): void {
    // The number of a process that has ended may be another's: ours last.
    for (const end of [this.its, this.#mine]) closeDescriptor(end);
  }
}
