import { spawn } from 'node:child_process';
import { performance } from 'node:perf_hooks';

/** One run of a program. Times are in milliseconds from just before the process was made. */
export interface TimedRun {
  /** When the marker came out of the program; undefined if it did not. */
  readonly marker: number | undefined;
  /** When the process had ended. */
  readonly end: number;
  readonly status: number | null;
  /** Standard output, as Latin-1. */
  readonly output: string;
  /** Standard error. */
  readonly errors: string;
}

/**
 * Runs a program without input and waits for its end. It is killed after `timeout` milliseconds, its status is null then. `environment`: what it
 * finds in its environment beside what this process has.
 */
export function timedRun(
  command: string,
  args: readonly string[],
  marker: string,
  timeout: number,
  environment: Readonly<Record<string, string>> = {},
): Promise<TimedRun> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const env = { ...process.env, ...environment };
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env, timeout, killSignal: 'SIGKILL' });
    let output = '';
    let errors = '';
    let seen: number | undefined;
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      const now = performance.now() - start;
      // The marker may come in two pieces.
      const from = Math.max(0, output.length - marker.length);
      output += text;
      if (seen === undefined && output.indexOf(marker, from) >= 0) seen = now;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    let end = 0;
    child.on('exit', () => {
      end = performance.now() - start;
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ marker: seen, end, status, output, errors }));
  });
}
