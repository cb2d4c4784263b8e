import { registerMachine } from '../control/registry.ts';
import { onEndingSignal, onStatisticsSignal, signalStatus } from '../host/signals.ts';
import { enterRawMode } from '../host/terminal.ts';
import type { MachineConfig, MachineEnd } from './config.ts';
import { connectConsoleInput } from './console-input.ts';
import { ControlSockets, steerFromOutside } from './control-sockets.ts';
import { Machine } from './machine.ts';

const STDOUT = 1;

/**
 * Builds a machine, runs it with standard input and output as its console, and steers it: signals, Ctrl-A x and the control
 * socket end it. Rejects with one line for the user when it cannot be built. `log` takes lines about what happens: what the
 * user has to know, and what he may want to.
 */
export async function runMachine(
  config: MachineConfig,
  log: { readonly notice: (line: string) => void; readonly detail: (line: string) => void },
): Promise<MachineEnd> {
  const undo: (() => void | Promise<void>)[] = [];
  let machine: Machine | undefined;
  try {
    const sockets = config.socket === undefined ? undefined : await ControlSockets.open(config.socket, log.notice);
    if (sockets) undo.push(() => sockets.close());
    const made = new Machine(config, { fd: STDOUT }, log.notice);
    machine = made;
    for (const line of made.info) log.detail(line);
    undo.push(steerFromOutside(made.control, sockets, log.notice));
    undo.push(registerMachine({ ...made.control.description, socket: sockets?.path }));
    undo.push(onEndingSignal(endOnSignals(made)));
    if (config.stats) undo.push(onStatisticsSignal(() => made.askForStatistics()));
    if (config.gdb !== undefined) {
      const port = await made.listenForGdb(config.gdb);
      log.notice(`the machine waits for a debugger: gdb -ex 'target remote localhost:${port}'`);
    }
    undo.push(enterRawMode());
    undo.push(connectConsoleInput(process.stdin, made.consoleInput, () => made.end({ kind: 'asked' })));
    return await made.run();
  } catch (error) {
    await machine?.close();
    throw error;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

/** The first signal ends the run in good order; one that comes while that is under way does not wait for it. */
function endOnSignals(machine: Machine): (signal: NodeJS.Signals) => void {
  let ending = false;
  return (signal) => {
    // What must be put right at the end, such as the terminal, is put right at the process's exit, too.
    if (ending) process.exit(signalStatus(signal));
    ending = true;
    machine.end({ kind: 'signal', signal });
  };
}
