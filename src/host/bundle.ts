/** Bundles: CommonJS files beside each other, each with all the code of the program or of one thread (scripts/bundle.ts). */
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The folder of the bundle that this code is in; undefined if it runs from its sources. */
export const BUNDLE_FOLDER = typeof __dirname === 'undefined' ? undefined : __dirname;

/** The file of a thread's code, whose source is given: that itself, or the thread's bundle where this code comes from one. */
export function threadFile(source: URL): URL {
  if (BUNDLE_FOLDER === undefined) return source;
  return pathToFileURL(join(BUNDLE_FOLDER, `${basename(source.pathname, '.ts')}.cjs`));
}
