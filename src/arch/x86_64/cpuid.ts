/**
 * CPUID of one vCPU: what the hypervisor can announce, with the machine's own topology, APIC ids and clock. Each vCPU is a
 * core of one package, with one thread. Leaves are those of the SDM (2A, CPUID) and AMD's APM (3, appendix E).
 */
import type { CpuidEntry } from '../../hypervisor/hypervisor.ts';

export interface CpuidOptions {
  /** Also the (x2)APIC id. */
  readonly vcpuId: number;
  readonly vcpuCount: number;
  /** TSC frequency in Hz, where it is known and constant. */
  readonly tscHz?: number;
  /** Frequency of the local APIC timer's input in Hz (divide configuration 1), where known. */
  readonly apicHz?: number;
}

const LEAF_FEATURES = 0x1;
const LEAF_CACHES = 0x4;
const LEAF_POWER = 0x6;
const LEAF_TOPOLOGY = 0xb;
const LEAF_TSC = 0x15;
const LEAF_FREQUENCY = 0x16;
const LEAF_TOPOLOGY_V2 = 0x1f;
const LEAF_HYPERVISOR = 0x40000000;
const LEAF_HYPERVISOR_TIMING = 0x40000010;
const LEAF_AMD_SIZES = 0x80000008;
const LEAF_AMD_TOPOLOGY = 0x8000001e;

const ECX_HYPERVISOR = 1 << 31;
const EDX_HTT = 1 << 28;
const CLFLUSH_LINE = 8; // in units of 8 bytes
const ECX_EPB = 1 << 3;
const LEVEL_SMT = 1;
const LEVEL_CORE = 2;

/** Bits of an APIC id that tell the cores of a package apart. */
function coreIdBits(vcpuCount: number): number {
  return Math.ceil(Math.log2(vcpuCount));
}

function editFeatures(entry: CpuidEntry, { vcpuId, vcpuCount }: CpuidOptions): CpuidEntry {
  const brand = entry.ebx & 0xff;
  const several = vcpuCount > 1;
  return {
    ...entry,
    ebx: ((vcpuId << 24) | (several ? Math.min(vcpuCount, 255) << 16 : 0) | (CLFLUSH_LINE << 8) | brand) >>> 0,
    ecx: (entry.ecx | ECX_HYPERVISOR) >>> 0,
    edx: (several ? entry.edx | EDX_HTT : entry.edx & ~EDX_HTT) >>> 0,
  };
}

/** Bits 31-26: core ids in the package, less 1; bits 25-14: ids that share this cache, less 1. */
function editCaches(entry: CpuidEntry, { vcpuCount }: CpuidOptions): CpuidEntry {
  if ((entry.eax & 0x1f) === 0) {
    return entry; // no more caches
  }
  const ids = 2 ** coreIdBits(vcpuCount);
  const level = (entry.eax >> 5) & 7;
  const sharing = level >= 3 ? Math.min(ids, 4096) - 1 : 0;
  return { ...entry, eax: ((entry.eax & 0x3fff) | (sharing << 14) | ((Math.min(ids, 64) - 1) << 26)) >>> 0 };
}

/** Leaves 0xb and 0x1f: threads of a core, cores of the package, end. */
function topology(leaf: number, { vcpuId, vcpuCount }: CpuidOptions): CpuidEntry[] {
  const levels = [
    { shift: 0, count: 1, type: LEVEL_SMT },
    { shift: coreIdBits(vcpuCount), count: vcpuCount, type: LEVEL_CORE },
    { shift: 0, count: 0, type: 0 },
  ];
  return levels.map(({ shift, count, type }, subleaf) => ({
    leaf,
    subleaf,
    eax: shift,
    ebx: count,
    ecx: (type << 8) | subleaf,
    edx: vcpuId,
  }));
}

function editAmdSizes(entry: CpuidEntry, { vcpuCount }: CpuidOptions): CpuidEntry {
  return {
    ...entry,
    ecx: ((entry.ecx & ~0xf0ff) | (coreIdBits(vcpuCount) << 12) | Math.min(vcpuCount - 1, 255)) >>> 0,
  };
}

function editAmdTopology(entry: CpuidEntry, { vcpuId }: CpuidOptions): CpuidEntry {
  return { ...entry, eax: vcpuId, ebx: vcpuId & 0xff, ecx: 0 };
}

/** Leaves that give the clocks; a leaf is absent where its numbers would not be exact. */
function clocks({ tscHz, apicHz }: CpuidOptions, hasHypervisorLeaves: boolean): CpuidEntry[] {
  if (tscHz === undefined) {
    return [];
  }
  const entries: CpuidEntry[] = [];
  // The crystal also drives the local APIC timer, and guests multiply in 32 bits: only whole ratios are told.
  if (apicHz !== undefined && apicHz < 2 ** 32 && tscHz % apicHz === 0) {
    entries.push({ leaf: LEAF_TSC, eax: 1, ebx: tscHz / apicHz, ecx: apicHz, edx: 0 });
  }
  const mhz = Math.round(tscHz / 1e6);
  const busMhz = apicHz === undefined ? 0 : Math.round(apicHz / 1e6);
  if (mhz < 0x10000 && busMhz < 0x10000) {
    entries.push({ leaf: LEAF_FREQUENCY, eax: mhz, ebx: mhz, ecx: busMhz, edx: 0 });
  }
  if (hasHypervisorLeaves) {
    const busKhz = apicHz === undefined ? 0 : Math.round(apicHz / 1000);
    entries.push({ leaf: LEAF_HYPERVISOR_TIMING, eax: Math.round(tscHz / 1000), ebx: busKhz, ecx: 0, edx: 0 });
  }
  return entries;
}

/**
 * The entries for one vCPU's setCpuid(). `supported` is the hypervisor's list; its paravirtual leaves (from 0x40000000 on)
 * stay as they are and get the timing leaf where the clocks are known. The order is by leaf and subleaf.
 */
export function vcpuCpuid(supported: readonly CpuidEntry[], options: CpuidOptions): CpuidEntry[] {
  const replaced = new Set([LEAF_TOPOLOGY, LEAF_TSC, LEAF_FREQUENCY, LEAF_TOPOLOGY_V2, LEAF_HYPERVISOR_TIMING]);
  const hasLeaf = (leaf: number) => supported.some((entry) => entry.leaf === leaf);
  const entries = supported
    .filter(({ leaf }) => !replaced.has(leaf))
    .map((entry) => {
      switch (entry.leaf) {
        case LEAF_FEATURES:
          return editFeatures(entry, options);
        case LEAF_CACHES:
          return editCaches(entry, options);
        case LEAF_POWER:
          return { ...entry, ecx: (entry.ecx & ~ECX_EPB) >>> 0 };
        case LEAF_AMD_SIZES:
          return editAmdSizes(entry, options);
        case LEAF_AMD_TOPOLOGY:
          return editAmdTopology(entry, options);
        default:
          return entry;
      }
    });
  entries.push(...topology(LEAF_TOPOLOGY, options));
  if (hasLeaf(LEAF_TOPOLOGY_V2)) {
    entries.push(...topology(LEAF_TOPOLOGY_V2, options));
  }
  entries.push(...clocks(options, hasLeaf(LEAF_HYPERVISOR)));
  return raiseMaximums(entries).sort((a, b) => a.leaf - b.leaf || (a.subleaf ?? 0) - (b.subleaf ?? 0));
}

/** Leaves 0 and 0x40000000 say which is the highest leaf of their range. */
function raiseMaximums(entries: readonly CpuidEntry[]): CpuidEntry[] {
  const highest = (first: number) =>
    Math.max(...entries.map(({ leaf }) => leaf).filter((leaf) => leaf >= first && leaf < first + 0x10000));
  return entries.map((entry) =>
    entry.leaf === 0 || entry.leaf === LEAF_HYPERVISOR
      ? { ...entry, eax: Math.max(entry.eax, highest(entry.leaf)) }
      : entry,
  );
}
