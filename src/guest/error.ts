/** Why the default guest could not be made: one line for people. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
}
