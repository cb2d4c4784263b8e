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
    // By now the machine has threads, which are waited for where the kernel is none: a process that exits while one of them loads
    // native code dies of it.
    made.load();
    for (const line of made.info) log.detail(line);
    if (config.gdb !== undefined) {
      const port = await made.listenForGdb(config.gdb);
      log.notice(`the machine waits for a debugger: gdb -ex 'target remote localhost:${port}'`);
    }
    // What the guest does first needs nothing of what follows, which takes as long as ten thousands of its instructions.
    made.start();
    undo.push(onEndingSignal(endOnSignals(made)));
    undo.push(registerMachine({ ...made.control.description, socket: sockets?.path }));
    if (config.stats) undo.push(onStatisticsSignal(() => made.askForStatistics()));
    undo.push(enterRawMode());
    undo.push(connectConsoleInput(process.stdin, made.consoleInput, () => made.end({ kind: 'asked' })));
    undo.push(steerFromOutside(made.control, sockets, log.notice));
    return await made.ended();
  } catch (error) {
    await machine?.close();
    throw error;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

/** Signals that come within this time are one: timeout(1) and terminals send them to a process and to its group. Milliseconds. */
const SAME_SIGNAL = 1000;

/** The first signal ends the run in good order; one that comes while that is under way does not wait for it. */
function endOnSignals(machine: Machine): (signal: NodeJS.Signals) => void {
  let began: number | undefined;
  return (signal) => {
    if (began !== undefined && performance.now() - began > SAME_SIGNAL) {
      // What must be put right at the end, such as the terminal. An exit would wait for threads that sit in system calls.
      process.emit('exit', signalStatus(signal));
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
    began ??= performance.now();
    machine.end({ kind: 'signal', signal });
  };
}
