import type { Hypervisor } from '../../../src/hypervisor/hypervisor.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';

/** The processors on which every bare guest runs. */
export const hypervisors: readonly Hypervisor[] = [soft];
