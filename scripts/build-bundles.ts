// Makes the bundles in build/, one for the program, one for what it starts first, one for each of its threads and of its jailed
// processes, and a list of their sources, from the project's root.

import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { BACKENDS } from '../src/virtio/backends.ts';
import { bundle } from './bundle.ts';

/** Jailed back ends: the process of one loads no other's code. */
const jailed = Object.entries(BACKENDS).map(([device, load]) => {
  const [, module] = /import\('\.\/(.+)'\)/.exec(String(load)) as unknown as [string, string];
  return [`jailed-${device}`, `jailed:${module}`] as const;
});

mkdirSync('build', { recursive: true });
const sources = await bundle(
  {
    '9s-process': 'src/9s/9s-process.ts',
    'device-thread': 'src/virtio/device-thread.ts',
    'early-vcpu': 'src/vm/early-vcpu.ts',
    'poller-thread': 'src/host/poller-thread.ts',
    'timer-thread': 'src/hypervisor/kvm/timer-thread.ts',
    'translator-thread': 'src/cpu/x86_64/jit/translator-thread.ts',
    'vcpu-thread': 'src/vm/vcpu-thread.ts',
    vivarium: 'src/cli/main.ts',
    ...Object.fromEntries(jailed),
  },
  resolve('build'),
);
writeFileSync('build/bundles.sources', sources.join('\n'));
