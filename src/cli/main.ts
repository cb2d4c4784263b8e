import { Command, CommanderError } from 'commander';
import { EndedBySignal, signalStatus } from '../host/signals.ts';
import { guestCommand } from './guest.ts';
import { runCommand } from './run.ts';

/** Runs the command line; resolves with the exit status. Errors are one line on standard error. */
export async function main(argv: readonly string[]): Promise<number> {
  let status = 0;
  const done = (value: number): void => {
    status = value;
  };
  const program = new Command('vivarium')
    .description('A virtual machine monitor: runs Linux on KVM, or on its own x86-64 processor')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'vivarium: ')) });
  for (const command of [runCommand(done), guestCommand()]) program.addCommand(command.copyInheritedSettings(program));

  const [name] = argv;
  if (name === undefined) {
    process.stdout.write(program.helpInformation());
    return 0;
  }
  if (!name.startsWith('-') && !program.commands.some((command) => command.name() === name)) {
    process.stderr.write(`vivarium: invalid subcommand: ${name}\n\n${program.helpInformation()}`);
    return 1;
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    // The parser has said what is wrong.
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof EndedBySignal) return signalStatus(error.signal);
    process.stderr.write(`vivarium: ${describe(error)}\n`);
    return 1;
  }
}

/** One line for what the user can mend; the whole trace for a mistake of ours. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const ours = error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError;
  return ours ? `internal error: ${error.stack}` : error.message;
}
