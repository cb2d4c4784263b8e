import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** Where what can be made again is kept (XDG Base Directory Specification: a relative XDG_CACHE_HOME does not count). */
export function cacheFolder(): string {
  const cache = process.env.XDG_CACHE_HOME ?? '';
  return join(isAbsolute(cache) ? cache : join(homedir(), '.cache'), 'vivarium');
}
