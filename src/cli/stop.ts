import { Command } from 'commander';
import { askEach, MACHINES_HELP } from './machine-requests.ts';

function command(name: string, description: string, path: string): Command {
  return new Command(name)
    .description(description)
    .argument('<MACHINE...>', MACHINES_HELP)
    .action(async (machines: readonly string[]) => void (await askEach(machines, 'POST', path, undefined)));
}

/** `vivarium stop`: ends machines as a power switch would. */
export const stopCommand = (): Command => command('stop', 'End machines at once', '/machine/exit');

/** `vivarium suspend`. */
export const suspendCommand = (): Command =>
  command('suspend', 'Make machines stand still, until they are resumed', '/machine/pause');

/** `vivarium resume`. */
export const resumeCommand = (): Command => command('resume', 'Let suspended machines go on', '/machine/resume');
