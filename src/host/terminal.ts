/** The terminal at standard input. */

/** Puts standard input, a terminal, into raw mode: each key comes at once and unseen, Ctrl-C is a byte. Returns what restores it. */
export function enterRawMode(): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const restore = (): void => {
    process.off('exit', restore);
    // Gone with its terminal (SIGHUP): nothing is left to restore.
    if (!stdin.destroyed) stdin.setRawMode(false);
  };
  stdin.setRawMode(true);
  // Reached also by uncaught errors and process.exit(). Signals that end the process at once are Node's: it resets terminals itself.
  process.on('exit', restore);
  return restore;
}
