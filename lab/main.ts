// `npm run lab -- [--results FOLDER] COMMAND`: runs a command where there is a KVM that can run any guest.
import { GuestError } from '../src/guest/error.ts';
import { prepareLab } from './build.ts';
import { commandLine, LabError, runInLab } from './run.ts';

const USAGE = `usage: npm run lab -- [--results FOLDER] COMMAND [ARGUMENT...]

Runs COMMAND in an emulated machine whose processor has virtualisation, on this machine's files: what it changes is gone
afterwards, but for what it leaves in /lab/results, which goes to FOLDER. One word is a line for the shell.
`;

async function main(words: readonly string[]): Promise<number> {
  const hasResults = words[0] === '--results';
  const results = hasResults ? words[1] : undefined;
  const command = words.slice(hasResults ? 2 : 0);
  if (command.length === 0) {
    process.stderr.write(USAGE);
    return 1;
  }
  const lab = await prepareLab((line) => process.stderr.write(`${line}\n`));
  return runInLab(lab, commandLine(command), results === undefined ? {} : { results });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof GuestError || error instanceof LabError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 125;
}
