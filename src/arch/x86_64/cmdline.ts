/** The kernel's command line, put together item by item. */

export type CommandLineErrorKind =
  | 'invalid-ascii'
  | 'has-space'
  | 'has-equals'
  | 'missing-key'
  | 'command-line-overflow';

/** A command line that cannot be given to a kernel. `message` is one line for the user. */
export class CommandLineError extends Error {
  readonly kind: CommandLineErrorKind;

  constructor(kind: CommandLineErrorKind, message: string) {
    super(message);
    this.name = 'CommandLineError';
    this.kind = kind;
  }
}

/**
 * What every guest gets. `reboot=k` resets by the 8042, which is always there; `panic=1` reboots, and so ends the
 * machine, one second after a panic.
 */
export const BASE_COMMAND_LINE = 'console=ttyS0 reboot=k panic=1';

function checkAscii(text: string): void {
  if (!/^[ -~]*$/.test(text)) {
    throw new CommandLineError(
      'invalid-ascii',
      `the kernel command line takes printable ASCII only: ${JSON.stringify(text)}`,
    );
  }
}

function checkItem(text: string): void {
  checkAscii(text);
  if (text.includes(' ')) {
    throw new CommandLineError(
      'has-space',
      `a space inside an item of the kernel command line: ${JSON.stringify(text)}`,
    );
  }
  if (text.includes('=')) {
    throw new CommandLineError(
      'has-equals',
      `an = inside a key or value of the kernel command line: ${JSON.stringify(text)}`,
    );
  }
}

/** A command line of limited size. Items are joined by one space. */
export class CommandLine {
  /** Bytes, the final NUL included. */
  readonly capacity: number;
  #text = '';

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** Adds `key=value`; neither may hold a space or an equals sign. Throws CommandLineError and is unchanged then. */
  insert(key: string, value: string): this {
    checkItem(key);
    checkItem(value);
    if (key === '') {
      throw new CommandLineError('missing-key', `an item of the kernel command line without a key: =${value}`);
    }
    return this.insertText(`${key}=${value}`);
  }

  /** Adds any text, such as the user's parameters. Throws CommandLineError and is unchanged then. */
  insertText(text: string): this {
    checkAscii(text);
    const joined = this.#text === '' || text === '' ? this.#text + text : `${this.#text} ${text}`;
    if (joined.length + 1 > this.capacity) {
      throw new CommandLineError(
        'command-line-overflow',
        `the kernel command line would be ${joined.length} bytes long, this kernel takes ${Math.max(this.capacity - 1, 0)}: shorten --params`,
      );
    }
    this.#text = joined;
    return this;
  }

  toString(): string {
    return this.#text;
  }

  /** The bytes for guest memory, the final NUL included. */
  toBytes(): Uint8Array {
    return Buffer.from(`${this.#text}\0`, 'ascii');
  }
}
