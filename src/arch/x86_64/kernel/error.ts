/** What is wrong with a kernel file. The kinds of the first group are those of ELF parsing, by their long-standing names. */
export type KernelErrorKind =
  | 'big-endian-elf'
  | 'invalid-elf-magic-number'
  | 'invalid-program-header-size'
  | 'invalid-program-header-offset'
  | 'invalid-program-header-address'
  | 'read-elf-header'
  | 'read-program-header'
  | 'read-kernel-image'
  // The file as a whole.
  | 'empty'
  | 'truncated'
  | 'not-a-kernel'
  | 'wrong-architecture'
  | 'too-large'
  // bzImage and entry.
  | 'unsupported-protocol'
  | 'unsupported-compression'
  | 'corrupt-payload'
  | 'no-pvh-entry';

/** A kernel file that cannot be booted. `message` is one line for the user, with what to do about it. */
export class KernelError extends Error {
  readonly kind: KernelErrorKind;

  constructor(kind: KernelErrorKind, message: string) {
    super(message);
    this.name = 'KernelError';
    this.kind = kind;
  }

  /** The same error with the file's name in front. */
  in(file: string): KernelError {
    return new KernelError(this.kind, `${file}: ${this.message}`);
  }
}
