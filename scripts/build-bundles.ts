// Makes the bundles in build/, one for the program, one for what it starts first, one for each of its threads and for jailed
// processes, and a list of their sources, from the project's root.

import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { bundle } from './bundle.ts';

mkdirSync('build', { recursive: true });
const sources = await bundle(
  {
    '9s-process': 'src/9s/9s-process.ts',
    'device-process': 'src/vm/jailed-backend.ts',
    'device-thread': 'src/virtio/device-thread.ts',
    'early-vcpu': 'src/vm/early-vcpu.ts',
    'poller-thread': 'src/host/poller-thread.ts',
    'timer-thread': 'src/hypervisor/kvm/timer-thread.ts',
    'translator-thread': 'src/cpu/x86_64/jit/translator-thread.ts',
    'vcpu-thread': 'src/vm/vcpu-thread.ts',
    vivarium: 'src/cli/main.ts',
  },
  resolve('build'),
);
writeFileSync('build/bundles.sources', sources.join('\n'));
