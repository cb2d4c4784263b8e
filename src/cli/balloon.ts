import { Command, Option } from 'commander';
import { size } from './disk-work.ts';
import { askEach, MACHINES_HELP } from './machine-requests.ts';
import { once } from './options.ts';

/** crosvm's balloon command counts pages. */
const PAGE = 4096;

function pages(text: string): number {
  const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Math.abs(value) < 2 ** 31) return value;
  throw new Error(`PAGES ${text}: it takes a number of pages of 4 KiB, negative to give memory back`);
}

/** `vivarium balloon`: more or less memory for machines. */
export function balloonCommand(): Command {
  return new Command('balloon')
    .description('Take memory from machines, or give it back')
    .argument('[PAGES]', 'by how many pages of 4 KiB the balloon grows; negative: shrinks')
    .argument('[MACHINE...]', MACHINES_HELP)
    .addOption(
      new Option('--set <SIZE>', 'the new size of the balloon, such as 64M, instead of PAGES').argParser(once(size)),
    )
    .action(async (first: string | undefined, rest: readonly string[], options: { readonly set?: number }) => {
      const all = first === undefined ? rest : [first, ...rest];
      const machines = options.set === undefined ? all.slice(1) : all;
      if (machines.length === 0) throw new Error('missing required argument MACHINE');
      if (options.set === undefined) await askEach(machines, 'PATCH', '/balloon', { adjust: pages(all[0]!) * PAGE });
      else await askEach(machines, 'PUT', '/balloon', { size: options.set });
    });
}
