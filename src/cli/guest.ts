import { Command } from 'commander';

/** Kernel and initial RAM disk of the default guest, fetched and made when they are not there. */
export async function defaultGuest(): Promise<{ readonly kernel: string; readonly initrd: string }> {
  throw new Error('there is no default guest yet: pass KERNEL and --initrd');
}

/** `vivarium guest`. */
export function guestCommand(): Command {
  return new Command('guest').description('Prepare the default guest');
}
