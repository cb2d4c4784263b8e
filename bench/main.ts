// `npm run bench -- NAME [options]`
import { blockBench } from './block.ts';
import { bootBench } from './boot.ts';
import { devicesBench } from './devices.ts';
import { guestBench } from './guest.ts';
import { kvmBench } from './kvm.ts';
import { netBench } from './net.ts';
import { sharedBench } from './shared.ts';
import { soakBench } from './soak.ts';

const BENCHES: Record<string, (args: string[]) => Promise<void>> = {
  block: blockBench,
  boot: bootBench,
  devices: devicesBench,
  guest: guestBench,
  kvm: kvmBench,
  net: netBench,
  soak: soakBench,
  shared: sharedBench,
};

const [name = '', ...args] = process.argv.slice(2);
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;
if (bench === undefined) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [options]\n`);
  process.exit(1);
}
try {
  await bench(args);
} catch (error) {
  process.stderr.write(`bench ${name}: ${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
