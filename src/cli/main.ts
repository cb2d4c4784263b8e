// Before everything else: what it starts loads beside the rest.
import '../vm/early-vcpu.ts';

import { Command, CommanderError } from 'commander';
import project from '../../package.json' with { type: 'json' };
import { EndedBySignal, signalStatus } from '../host/signals.ts';
import { nameProcess } from '../host/threads.ts';
import { takeEarlyVcpu } from '../vm/early-vcpu.ts';
import { nineServerCommand } from './9s.ts';
import { balloonCommand } from './balloon.ts';
import { createQcow2Command } from './create-qcow2.ts';
import { diskCommand } from './disk.ts';
import { guestCommand } from './guest.ts';
import { psCommand } from './ps.ts';
import { runCommand } from './run.ts';
import { statsCommand } from './stats.ts';
import { resumeCommand, stopCommand, suspendCommand } from './stop.ts';

/** Runs the command line; resolves with the exit status. Errors are one line on standard error. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    return await runCommandLine(argv);
  } finally {
    // A process that exits while a thread of it loads native code dies of that.
    await takeEarlyVcpu()?.dismiss();
  }
}

async function runCommandLine(argv: readonly string[]): Promise<number> {
  nameProcess('vivarium');
  let status = 0;
  const done = (value: number): void => {
    status = value;
  };
  const program = new Command('vivarium')
    .description('A virtual machine monitor: runs Linux on KVM, or on its own x86-64 processor')
    .version(project.version, '--version', 'print the version')
    .helpCommand(false)
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({
      outputError: (text, write) => write(`vivarium: ${describeUsageError(text)}\n`),
      writeOut: (text) => readerMayGo().write(text),
    })
    // `run` writes its console itself, and needs no stream for that, which takes milliseconds to make.
    .hook('preSubcommand', (_program, command) => {
      if (command.name() !== 'run') readerMayGo();
    });
  const commands = [
    runCommand(done),
    psCommand(),
    stopCommand(),
    suspendCommand(),
    resumeCommand(),
    balloonCommand(),
    statsCommand(),
    guestCommand(),
    diskCommand(done),
    createQcow2Command(),
    nineServerCommand(),
  ];
  for (const command of commands) addCommand(program, command);

  const [name] = argv;
  if (name === undefined) {
    readerMayGo().write(program.helpInformation());
    return 0;
  }
  if (!name.startsWith('-') && !program.commands.some((command) => command.name() === name)) {
    process.stderr.write(`vivarium: invalid subcommand: ${printable(name)}\n\n${program.helpInformation()}`);
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

/** Standard output. When its reader has gone, as `head` does, the rest is for nobody. */
function readerMayGo(): NodeJS.WriteStream {
  if (!process.stdout.listeners('error').includes(onOutputError)) process.stdout.on('error', onOutputError);
  return process.stdout;
}

function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

/** Adds a command and its own ones, which report errors as `parent` does. */
function addCommand(parent: Command, command: Command): void {
  parent.addCommand(command.copyInheritedSettings(parent));
  for (const child of command.commands) child.copyInheritedSettings(command);
}

/** The parser's message in Vivarium's form: the option or argument, its value, what is wrong. */
function describeUsageError(text: string): string {
  const line = text.replace(/^error: /, '').replace(/\.?\n$/, '');
  const argument = /^command-argument value '(.*)' is invalid for argument '(.*)'\. (.*)$/s.exec(line);
  if (argument !== null) return printable(`${argument[2]} ${argument[1] === '' ? "''" : argument[1]}: ${argument[3]}`);
  const value = /^option '(?:-\w, )?(--\S+)[^']*' argument '(.*)' is invalid\. (.*)$/s.exec(line);
  return printable(value === null ? line : `${value[1]} ${value[2] === '' ? "''" : value[2]}: ${value[3]}`);
}

/** Text that stays one line and cannot steer a terminal, whatever a path or parameter holds. */
function printable(text: string): string {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** One line for what the user can mend; the whole trace for a mistake of ours. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return printable(String(error));
  const ours = error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError;
  return ours ? `internal error: ${error.stack}` : printable(error.message);
}
