import { Command } from 'commander';
import { createProgressDisplay, type Guest, prepareGuest } from '../guest/index.ts';
import { EndedBySignal, onEndingSignal } from '../host/signals.ts';

/** The default guest, fetched and made when it is not there, with progress on standard error. */
export async function defaultGuest(): Promise<Guest> {
  const abort = new AbortController();
  const display = createProgressDisplay(process.stderr);
  // What is complete stays for the next time; the rest goes with the process.
  const stop = onEndingSignal((signal) => abort.abort(new EndedBySignal(signal)));
  try {
    return await prepareGuest({ progress: (event) => display.show(event), signal: abort.signal });
  } finally {
    display.end();
    stop();
  }
}

/** `vivarium guest`. */
export function guestCommand(): Command {
  const prepare = new Command('prepare')
    .description('Fetch and make the default guest, where that was not done yet')
    .action(async () => {
      const { kernel, initrd } = await defaultGuest();
      process.stdout.write(`kernel: ${kernel}\ninitrd: ${initrd}\n`);
    });
  return new Command('guest')
    .description('The default guest: a Debian kernel and a small system')
    .helpCommand(false)
    .addCommand(prepare);
}
