import { Command, Option } from 'commander';
import {
  createProgressDisplay,
  type Guest,
  type GuestOptions,
  prepareBubblewrap,
  prepareGuest,
  prepareRootfs,
} from '../guest/index.ts';
import { EndedBySignal, onEndingSignal } from '../host/signals.ts';

/** The default guest, fetched and made when it is not there, with progress on standard error. */
export function defaultGuest(): Promise<Guest> {
  return withProgress(prepareGuest);
}

/** The path of its root disk's image, likewise. */
export function defaultRootfs(): Promise<string> {
  return withProgress(prepareRootfs);
}

/** The folder of a bwrap of our own, likewise. */
export function defaultBubblewrap(): Promise<string> {
  return withProgress(prepareBubblewrap);
}

async function withProgress<T>(prepare: (options: GuestOptions) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const display = createProgressDisplay(process.stderr);
  // What is complete stays for the next time; the rest goes with the process.
  const stop = onEndingSignal((signal) => abort.abort(new EndedBySignal(signal)));
  try {
    return await prepare({ progress: (event) => display.show(event), signal: abort.signal });
  } finally {
    display.end();
    stop();
  }
}

/** `vivarium guest`. */
export function guestCommand(): Command {
  const prepare = new Command('prepare')
    .description('Fetch and make the default guest, where that was not done yet')
    .addOption(new Option('--rootfs', 'also make its root disk, a small Debian with apt and a compiler'))
    .action(async ({ rootfs }: { readonly rootfs?: boolean }) => {
      const { kernel, initrd } = await defaultGuest();
      process.stdout.write(`kernel: ${kernel}\ninitrd: ${initrd}\n`);
      if (rootfs) process.stdout.write(`rootfs: ${await defaultRootfs()}\n`);
    });
  return new Command('guest')
    .description('The default guest: a Debian kernel and a small system')
    .helpCommand(false)
    .addCommand(prepare);
}
