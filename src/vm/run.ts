import { onEndingSignal, onStatisticsSignal } from '../host/signals.ts';
import { enterRawMode } from '../host/terminal.ts';
import type { MachineConfig, MachineEnd } from './config.ts';
import { connectConsoleInput } from './console-input.ts';
import { Machine } from './machine.ts';

const STDOUT = 1;

/**
 * Builds a machine, runs it with standard input and output as its console, and steers it: signals and Ctrl-A x end it.
 * Rejects with one line for the user when it cannot be built. `log` takes lines about what happens: what the user has to
 * know, and what he may want to.
 */
export async function runMachine(
  config: MachineConfig,
  log: { readonly notice: (line: string) => void; readonly detail: (line: string) => void },
): Promise<MachineEnd> {
  const machine = new Machine(config, { fd: STDOUT }, log.notice);
  for (const line of machine.info) log.detail(line);
  const stopSignals = onEndingSignal((signal) => machine.end({ kind: 'signal', signal }));
  const stopStatistics = config.stats ? onStatisticsSignal(() => machine.askForStatistics()) : () => {};
  let restoreTerminal = (): void => {};
  let stopInput = (): void => {};
  try {
    if (config.gdb !== undefined) {
      const port = await machine.listenForGdb(config.gdb);
      log.notice(`the machine waits for a debugger: gdb -ex 'target remote localhost:${port}'`);
    }
    restoreTerminal = enterRawMode();
    stopInput = connectConsoleInput(process.stdin, machine.platform, () => machine.end({ kind: 'asked' }));
    return await machine.run();
  } catch (error) {
    await machine.close();
    throw error;
  } finally {
    stopInput();
    restoreTerminal();
    stopSignals();
    stopStatistics();
  }
}
