// The thread that serves the 8254 of a split interrupt chip: when its time comes, all vCPUs may be in the guest.

import { workerData } from 'node:worker_threads';
import type { VmShare } from '../hypervisor.ts';
import { KvmVm } from './vm.ts';

KvmVm.attach(workerData as VmShare).serveTimer();
