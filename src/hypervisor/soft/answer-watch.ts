/**
 * How soon a vCPU that runs the guest's code looks for a device's answer. A guest that waits for each answer goes to sleep meanwhile, if the
 * answer is not there before: that is a fifth of what its kernel does for a read of 4 KiB. To a guest that has more to do, the answers of
 * several requests in one interrupt are less work.
 */

/** Instructions between two looks at clocks and requests: some hundred microseconds at the interpreter's speed. */
const PIECE = 20_000;
/** The same while an answer is waited for: ten to twenty microseconds. */
const SHORT_PIECE = 1000;
/** Short pieces after a notification: as long as a disk's answer may take, or a guest's way to HLT. */
const SHORT_PIECES = 10;
/** Notifications after which a guest that has waited once is taken to wait again. */
const NOTIFICATIONS = 64;

/** Belongs to the vCPU that takes the devices' interrupts. */
export class AnswerWatch {
  #unanswered = false;
  /** Notifications still to come whose answers are awaited. */
  #awaited = 0;
  #shortPieces = 0;

  /** The guest has notified a device. */
  notified(): void {
    this.#unanswered = true;
    if (this.#awaited === 0) return;
    this.#awaited--;
    this.#shortPieces = SHORT_PIECES;
  }

  /** A device has sent an interrupt. */
  answered(): void {
    this.#unanswered = false;
    this.#shortPieces = 0;
  }

  /** The guest has nothing to do. */
  halted(): void {
    if (this.#unanswered) this.#awaited = NOTIFICATIONS;
    this.#unanswered = false;
    this.#shortPieces = 0;
  }

  /** Instructions of the next piece of the guest's code. */
  nextPiece(): number {
    if (this.#shortPieces === 0) return PIECE;
    this.#shortPieces--;
    // This device takes longer.
    if (this.#shortPieces === 0) this.#awaited = 0;
    return SHORT_PIECE;
  }
}
