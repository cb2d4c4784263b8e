/** JSON between the monitor and a device process: one message a packet, over a messageSocketPair(). */
import { receiveMessage, sendMessage } from '../host/unix-socket.ts';

/** Bytes of a message, at most: what a socket's buffer takes for sure. */
const MAX_MESSAGE = 128 * 1024;

export interface ChannelMessage {
  readonly value: unknown;
  /** Descriptors that came with it, the receiver's. */
  readonly fds: readonly number[];
}

/** Throws OsError: EAGAIN when the other end does not read, EPIPE when it has gone. Throws RangeError for a message that is too long. */
export function sendJson(fd: number, value: unknown, fds: readonly number[] = []): void {
  const bytes = Buffer.from(JSON.stringify(value));
  if (bytes.length > MAX_MESSAGE) {
    throw new RangeError(`a message of ${bytes.length} bytes is too long: ${MAX_MESSAGE} at most`);
  }
  sendMessage(fd, bytes, fds);
}

/**
 * The next message. `wait` blocks this thread until there is one, else undefined says that there is none yet. Null: the other end has
 * gone. Throws OsError, and SyntaxError for what is no JSON.
 */
export function receiveJson(fd: number, { wait }: { readonly wait: boolean }): ChannelMessage | undefined | null {
  const message = receiveMessage(fd, MAX_MESSAGE, { wait });
  if (!message) return message;
  return { value: JSON.parse(Buffer.from(message.bytes).toString()), fds: message.fds };
}
