import type { TestContext } from 'node:test';
import { GuestError } from '../../src/guest/error.ts';

/** What is made of Debian's packages. Undefined: they cannot be had here, and the test is skipped, and says why. */
export async function madeOfPackages<T>(t: TestContext, make: () => Promise<T>): Promise<T | undefined> {
  try {
    return await make();
  } catch (error) {
    // All else that can be wrong is ours.
    if (!(error instanceof GuestError && error.message.startsWith('apt'))) throw error;
    t.skip(`Debian's packages cannot be had: ${error.message}`);
    return undefined;
  }
}
