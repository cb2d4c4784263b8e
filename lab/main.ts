// `npm run lab -- [--cpus N] [--results FOLDER] COMMAND`: runs a command where there is a KVM that can run any guest.
import { GuestError } from '../src/guest/error.ts';
import { prepareLab } from './build.ts';
import { commandLine, LabError, runInLab } from './run.ts';

const USAGE = `usage: npm run lab -- [--cpus N] [--results FOLDER] COMMAND [ARGUMENT...]

Runs COMMAND in an emulated machine whose processor has virtualisation, on this machine's files: what it changes is gone
afterwards, but for what it leaves in /lab/results, which goes to FOLDER. One word is a line for the shell. The machine has two
processors; QEMU before 8.1 is more reliable with one, and programs that make code (Node) may need it.
`;

async function main(words: readonly string[]): Promise<number> {
  const options: { cpus?: number; results?: string } = {};
  let first = 0;
  for (; words[first] === '--cpus' || words[first] === '--results'; first += 2) {
    const value = words[first + 1] ?? '';
    if (words[first] === '--results') options.results = value;
    else options.cpus = Number(value);
  }
  const command = words.slice(first);
  const { cpus = 1 } = options;
  if (command.length === 0 || options.results === '' || !Number.isInteger(cpus) || cpus < 1 || cpus > 64) {
    process.stderr.write(USAGE);
    return 1;
  }
  const lab = await prepareLab((line) => process.stderr.write(`${line}\n`));
  return runInLab(lab, commandLine(command), options);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof GuestError || error instanceof LabError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 125;
}
