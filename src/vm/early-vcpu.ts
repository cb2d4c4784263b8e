// The first vCPU's thread of `vivarium run`, started before anything else of the program is loaded: the two load at the same time.

import { VcpuWorker } from './vcpu-worker.ts';

/** What the command line asks for, as far as it tells before it is parsed. */
function askedHypervisor(args: readonly string[]): string {
  const at = args.findLastIndex((arg) => /^--hypervisor(?:=|$)/.test(arg));
  return at < 0 ? 'auto' : (/=(.*)/s.exec(args[at] as string)?.[1] ?? args[at + 1] ?? 'auto');
}

const [command, ...args] = process.argv.slice(2);
let early = command === 'run' ? new VcpuWorker(0, askedHypervisor(args)) : undefined;

/** The thread: for one caller, and once. */
export function takeEarlyVcpu(): VcpuWorker | undefined {
  const thread = early;
  early = undefined;
  return thread;
}
