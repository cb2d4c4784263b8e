// `npm run lab -- [--cpus N] [--results FOLDER] COMMAND`: runs a command where there is a KVM that can run any guest.
import { GuestError } from '../src/guest/error.ts';
import { prepareLab } from './build.ts';
import { commandLine, LabError, runInLab } from './run.ts';

const USAGE = `usage: npm run lab -- [--cpus N] [--results FOLDER] COMMAND [ARGUMENT...]

Runs COMMAND in an emulated machine whose processor has virtualisation, on this machine's files: what it changes is gone
afterwards, but for what it leaves in /lab/results, which goes to FOLDER. One word is a line for the shell. The machine has one
processor, unless N says otherwise; one thread of the host emulates them all.
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
  const { cpus } = options;
  const wrongCount = cpus !== undefined && !(Number.isInteger(cpus) && cpus >= 1 && cpus <= 64);
  if (command.length === 0 || options.results === '' || wrongCount) {
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
