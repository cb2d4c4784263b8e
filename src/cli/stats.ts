import { Command } from 'commander';
import { askEach } from './machine-requests.ts';

/** `vivarium stats`. */
export function statsCommand(): Command {
  return new Command('stats')
    .description('Show figures of a machine')
    .argument('<MACHINE>', 'its control socket, or its number as `vivarium ps` lists it')
    .action(async (machine: string) => {
      const [statistics] = await askEach<object>([machine], 'GET', '/statistics', undefined);
      process.stdout.write(lines(statistics!, '').join(''));
    });
}

/** A line for each figure: its path, and its value. */
function lines(value: object, path: string): string[] {
  return Object.entries(value).flatMap(([name, part]: [string, unknown]) => {
    const here = path === '' ? name : `${path}.${name}`;
    return typeof part === 'object' && part !== null ? lines(part, here) : [`${here}: ${String(part)}\n`];
  });
}
