/** What the commands share that ask running machines. */
import { ask } from '../control/client.ts';
import { socketOf } from '../control/registry.ts';

/** Help for the argument that names machines. */
export const MACHINES_HELP = 'control sockets, or numbers as `vivarium ps` lists them';

/** Asks each machine; those that fail do not keep the others from being asked. Throws an Error with a line for each that failed. */
export async function askEach<T>(
  machines: readonly string[],
  method: string,
  path: string,
  body: unknown,
): Promise<T[]> {
  const results = await Promise.allSettled(
    machines.map(async (machine) => (await ask(socketOf(machine), method, path, body)) as T),
  );
  const failures = results.filter((result) => result.status === 'rejected').map(({ reason }) => reason as Error);
  const surprise = failures.find((error) => error.name !== 'Error');
  if (surprise !== undefined) throw surprise;
  for (const { message } of failures.slice(0, -1)) process.stderr.write(`vivarium: ${message}\n`);
  const last = failures.at(-1);
  if (last !== undefined) throw last;
  return results.map((result) => (result as PromiseFulfilledResult<T>).value);
}
