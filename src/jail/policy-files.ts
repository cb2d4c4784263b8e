/** Where seccomp policies are, and reading them. */
import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Policy, PolicyError, parsePolicy } from './policy.ts';

/** The policies that come with Vivarium. */
export const POLICY_FOLDER = fileURLToPath(new URL('policies', import.meta.url));

const MAX_SIZE = 1024 * 1024;

/** Reads `NAME.policy` of a folder, with what it includes. Throws PolicyError with the file's name and what to mend. */
export function readPolicy(name: string, folder: string): Policy {
  const path = join(folder, `${name}.policy`);
  return parsePolicy(read(path), path, (included) => {
    const file = isAbsolute(included) ? included : join(folder, included);
    return { name: file, text: read(file) };
  });
}

function read(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new PolicyError(`${path}: there is no such policy: give a folder that has it with --seccomp-policy-dir`);
    }
    throw new PolicyError(`${path}: the policy cannot be read: ${message}`);
  }
  if (text.length > MAX_SIZE) throw new PolicyError(`${path}: no policy is this long (${text.length} characters)`);
  return text;
}
