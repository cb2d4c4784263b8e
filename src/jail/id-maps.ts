/** The users and groups that a user namespace has (user_namespaces(7)). */
import { readFileSync, writeFileSync } from 'node:fs';

/** Lines as /proc/PID/uid_map and gid_map take them: number inside, number outside, how many. */
export interface IdMaps {
  readonly uids: string;
  readonly gids: string;
}

/** All users and groups of this process's namespace, by the same numbers. */
export function allIds(): IdMaps {
  return { uids: same('/proc/self/uid_map'), gids: same('/proc/self/gid_map') };
}

function same(path: string): string {
  const ranges = readFileSync(path, 'latin1').trim().split('\n');
  return ranges
    .map((range) => range.trim().split(/\s+/))
    .map(([first, , count]) => `${first} ${first} ${count}\n`)
    .join('');
}

/** Gives a process's new namespace its users and groups. Needs root's rights here. Throws what Node's files throw. */
export function writeIdMaps(pid: number, { uids, gids }: IdMaps): void {
  writeFileSync(`/proc/${pid}/uid_map`, uids);
  writeFileSync(`/proc/${pid}/gid_map`, gids);
}
