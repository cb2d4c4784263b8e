/** Runs Debian's package tools. */
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { DiskFullError, GuestError, WITHOUT_DEFAULT_GUEST } from './error.ts';

export interface ToolOptions {
  readonly cwd?: string;
  readonly signal?: AbortSignal | undefined;
  /** A descriptor that the child inherits and does not use. */
  readonly lockFd: number;
  /** A descriptor that the tool has as STATUS_FD, when nobody asks for its status. */
  readonly extraFd?: number;
  /** Gets each line of standard error. */
  readonly errorLine?: (line: string) => void;
  /** Gets each line that the tool writes to descriptor STATUS_FD. */
  readonly status?: (line: string) => void;
  /** Returns what a failed tool wrote, too. */
  readonly mayFail?: boolean;
}

/** What a tool wrote to its standard output and standard error (the end of the latter). */
export interface ToolOutput {
  readonly output: string;
  readonly errors: string;
}

/** The child's descriptor for APT::Status-Fd. */
export const STATUS_FD = 3;
/** A tool's last words are enough to tell what it died of. */
const ERROR_CHARACTERS_MAX = 64 * 1024;

/**
 * Runs a tool to its end.
 * @throws GuestError if it is missing or fails, DiskFullError, or the signal's reason
 */
export async function runTool(command: string, args: readonly string[], options: ToolOptions): Promise<ToolOutput> {
  options.signal?.throwIfAborted();
  const child = spawn(command, args, {
    cwd: options.cwd,
    signal: options.signal,
    // No more of them: mmdebstrap gives its own to a shell that knows those of one digit alone.
    stdio: ['ignore', 'pipe', 'pipe', options.extraFd ?? 'pipe', options.lockFd],
    // Messages are compared below; apt must ask nothing.
    env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
  });
  let output = '';
  let errors = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-ERROR_CHARACTERS_MAX);
  });
  if (options.errorLine) forEachLine(child.stderr as Readable, options.errorLine);
  if (options.extraFd === undefined) forEachLine(child.stdio[STATUS_FD] as Readable, options.status ?? (() => {}));
  let failure: NodeJS.ErrnoException | undefined;
  child.on('error', (error) => {
    failure = error;
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  options.signal?.throwIfAborted();
  if (failure?.code === 'ENOENT')
    throw new GuestError(`${command} is not installed, so there is no default guest; ${WITHOUT_DEFAULT_GUEST}`);
  if (failure !== undefined) throw failure;
  if (/No space left on device|Disk quota exceeded/.test(errors)) throw new DiskFullError(command);
  if (code !== 0 && !options.mayFail)
    throw new GuestError(`${command}: ${mainError(errors) ?? 'it failed without a word'}`);
  return { output, errors };
}

/** apt marks errors with "E:"; the first is the cause of the others. */
function mainError(errors: string): string | undefined {
  const lines = errors.split('\n').filter((line) => line.trim() !== '');
  return (lines.find((line) => line.startsWith('E: '))?.slice(3) ?? lines.at(-1))?.trim();
}

function forEachLine(stream: Readable, take: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
  });
}
