/** Pieces of work that a guest's shell does and the host times: from a line that the guest prints to the next. */
import { spawn } from 'node:child_process';

/** A run that takes longer has failed, in milliseconds. */
const TIMEOUT = 600_000;

export interface TimedMachine<Work extends string> {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Milliseconds, of each run. */
  readonly times: Readonly<Record<Work, number[]>>;
}

/** Lines of a shell script that do the work by name, each with the guest's cache empty. */
export function timedWork(work: Readonly<Record<string, string>>): string {
  return Object.entries(work)
    .map(([name, line]) => `echo 3 >/proc/sys/vm/drop_caches; echo "bench: ${name}"; ${line} && echo "bench: done"`)
    .join('\n');
}

/** Runs all machines in turns, each after `prepare`, and keeps their times. */
export async function timeInTurns<Work extends string, Machine extends TimedMachine<Work>>(
  machines: readonly Machine[],
  names: readonly Work[],
  runs: number,
  prepare: (machine: Machine) => void,
): Promise<void> {
  for (let run = 0; run < runs; run++) {
    for (const machine of machines) {
      prepare(machine);
      const times = await timeWork(machine, names);
      for (const work of names) machine.times[work].push(times[work]);
      const last = names.map((work) => `${work} ${Math.round(times[work])} ms`);
      process.stdout.write(`${machine.name}: ${last.join(', ')}\n`);
    }
  }
}

/** Runs a guest that does the work of these names, to its end. Milliseconds of each. */
function timeWork<Work extends string>(
  { name, command, args }: TimedMachine<Work>,
  names: readonly Work[],
): Promise<Record<Work, number>> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: TIMEOUT,
      killSignal: 'SIGKILL',
    });
    const times: Partial<Record<Work, number>> = {};
    let output = '';
    let current: Work | undefined;
    let begun = 0;
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      const lines = (output + text).split('\n');
      output = lines.pop() as string;
      for (const line of lines) {
        const what = /^bench: (\w+)/.exec(line)?.[1];
        if (what === 'done' && current !== undefined) times[current] = performance.now() - begun;
        if (what !== undefined) current = names.find((work) => work === what);
        begun = performance.now();
      }
    });
    child.on('error', reject);
    child.on('close', (status) => {
      const done = names.filter((work) => times[work] !== undefined);
      if (status === 0 && done.length === names.length) resolve(times as Record<Work, number>);
      else reject(new Error(`${name} ended with status ${status}, and did ${done.join(', ') || 'nothing'}`));
    });
  });
}
