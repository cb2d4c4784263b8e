import { Command } from 'commander';
import { ask } from '../control/client.ts';
import { type RunningMachine, runningMachines } from '../control/registry.ts';

const COLUMNS = ['PID', 'STATE', 'TIME', 'CPUS', 'MEMORY', 'KERNEL', 'SOCKET'] as const;

/** `vivarium ps`. */
export function psCommand(): Command {
  return new Command('ps').description("List this user's machines that run").action(async () => {
    const machines = await Promise.all(runningMachines().map(row));
    process.stdout.write(table([COLUMNS, ...machines]));
  });
}

async function row(machine: RunningMachine): Promise<readonly string[]> {
  const { pid, started, cpus, memory, kernel, socket } = machine;
  return [
    String(pid),
    await stateOf(socket),
    duration(Math.max(0, Date.now() - started)),
    String(cpus),
    `${memory / 2 ** 20}M`,
    kernel,
    socket ?? '-',
  ];
}

/** Without a socket nobody can have paused it. */
async function stateOf(socket: string | undefined): Promise<string> {
  if (socket === undefined) return 'running';
  try {
    return ((await ask(socket, 'GET', '/machine')) as { readonly state: string }).state;
  } catch {
    return 'unreachable';
  }
}

/** Hours, minutes, seconds. */
function duration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((cells) => cells[column]!.length)));
  return rows
    .map(
      (cells) =>
        `${cells
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
