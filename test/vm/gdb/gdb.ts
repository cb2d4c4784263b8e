import { spawn, spawnSync } from 'node:child_process';

/** Why tests with the real GDB cannot be run here; undefined: they can. */
export const noGdb: string | undefined =
  spawnSync('gdb', ['--version']).status === 0 ? undefined : 'gdb is not installed';

/** Runs GDB in batch mode with these commands, after it has connected to a port. Returns what it printed. */
export async function gdb(
  port: number,
  commands: readonly string[],
  during?: (output: string, interrupt: () => void) => void,
): Promise<string> {
  const all = [
    'set pagination off',
    'set confirm off',
    'set tcp connect-timeout 10',
    `target remote 127.0.0.1:${port}`,
    ...commands,
  ];
  const child = spawn('gdb', ['-nx', '-batch', ...all.flatMap((command) => ['-ex', command])], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output += text;
      during?.(output, () => child.kill('SIGINT'));
    });
  }
  await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return output;
}
