import type { CpuidEntry } from '../hypervisor.ts';

/** Frequency of the built-in machine's TSC: one tick a nanosecond of the host's monotonic clock. */
export const TSC_HZ = 1_000_000_000;

/** Width of a guest-physical address. */
export const PHYSICAL_ADDRESS_BITS = 46;

const bits = (...numbers: number[]): number => numbers.reduce((sum, n) => sum | (1 << n), 0) >>> 0;

/** Text of 12 characters as EBX, ECX, EDX in that order. */
function words(text: string): [number, number, number] {
  const view = new DataView(new TextEncoder().encode(text).buffer);
  return [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true)];
}

function leaf(leaf: number, eax: number, ebx: number, ecx: number, edx: number, subleaf?: number): CpuidEntry {
  const entry = { leaf, eax: eax >>> 0, ebx: ebx >>> 0, ecx: ecx >>> 0, edx: edx >>> 0 };
  return subleaf === undefined ? entry : { ...entry, subleaf };
}

/**
 * Family 6, model 54, an in-order Atom: a processor that does not speculate, which is true here and spares the guest
 * every mitigation of speculation.
 */
const SIGNATURE = 0x00030661;

// SDM volume 2, CPUID, leaf 1. Bits by number; MONITOR, DEBUG STORE, VMX and their like are honestly absent.
const LEAF1_ECX = bits(
  /* SSE3 */ 0,
  /* PCLMULQDQ */ 1,
  /* SSSE3 */ 9,
  /* FMA */ 12,
  /* CX16 */ 13,
  /* PCID */ 17,
  /* SSE4.1 */ 19,
  /* SSE4.2 */ 20,
  /* x2APIC */ 21,
  /* MOVBE */ 22,
  /* POPCNT */ 23,
  /* TSC-deadline */ 24,
  /* AES */ 25,
  /* XSAVE */ 26,
  /* AVX */ 28,
  /* F16C */ 29,
  /* RDRAND */ 30,
  /* hypervisor */ 31,
);
const LEAF1_EDX = bits(
  /* FPU */ 0,
  /* VME */ 1,
  /* DE */ 2,
  /* PSE */ 3,
  /* TSC */ 4,
  /* MSR */ 5,
  /* PAE */ 6,
  /* MCE */ 7,
  /* CX8 */ 8,
  /* APIC */ 9,
  /* SEP */ 11,
  /* MTRR */ 12,
  /* PGE */ 13,
  /* MCA */ 14,
  /* CMOV */ 15,
  /* PAT */ 16,
  /* PSE-36 */ 17,
  /* CLFSH */ 19,
  /* MMX */ 23,
  /* FXSR */ 24,
  /* SSE */ 25,
  /* SSE2 */ 26,
);
const LEAF7_EBX = bits(
  /* FSGSBASE */ 0,
  /* TSC_ADJUST */ 1,
  /* BMI1 */ 3,
  /* AVX2 */ 5,
  /* SMEP */ 7,
  /* BMI2 */ 8,
  /* ERMS */ 9,
  /* INVPCID */ 10,
  /* RDSEED */ 18,
  /* ADX */ 19,
  /* SMAP */ 20,
  /* CLFLUSHOPT */ 23,
  /* SHA */ 29,
);
const LEAF7_ECX = bits(/* UMIP */ 2, /* RDPID */ 22);
const LEAF7_EDX = bits(/* FSRM */ 4);
/** Leaf 0xd, subleaf 1. */
const XSAVE_FEATURES = bits(/* XSAVEOPT */ 0, /* XSAVEC */ 1, /* XGETBV of XCR1 */ 2);
const EXTENDED_ECX = bits(/* LAHF */ 0, /* LZCNT */ 5);
const EXTENDED_EDX = bits(/* SYSCALL */ 11, /* NX */ 20, /* 1 GiB pages */ 26, /* RDTSCP */ 27, /* long mode */ 29);

/** Bytes of the XSAVE area with x87 and SSE state; of AVX state, behind it. */
const XSAVE_SIZE = 576;
const AVX_SIZE = 256;

/** What the built-in processor can do. */
export function supportedCpuid(): CpuidEntry[] {
  const [v0, v1, v2] = words('GenuineIntel');
  const [k0, k1, k2] = words('KVMKVMKVM\0\0\0');
  const brand = 'Vivarium built-in x86-64 processor'.padEnd(48, '\0');
  const brandLeaf = (index: number): CpuidEntry => {
    const [eax, ebx, ecx] = words(brand.slice(index * 16, index * 16 + 12));
    const [edx] = words(brand.slice(index * 16 + 12, index * 16 + 16).padEnd(12, '\0'));
    return leaf(0x80000002 + index, eax, ebx, ecx, edx);
  };
  return [
    leaf(0, 0x16, v0, v2, v1),
    leaf(1, SIGNATURE, 8 << 8, LEAF1_ECX, LEAF1_EDX),
    leaf(2, 0x00ff_ff01, 0, 0, 0),
    // Caches of the deterministic kind: 32 KiB L1D and L1I, 1 MiB L2, 64-byte lines.
    leaf(4, 0x121, (7 << 22) | 63, 63, 0, 0),
    leaf(4, 0x122, (7 << 22) | 63, 63, 0, 1),
    leaf(4, 0x143, (15 << 22) | 63, 1023, 0, 2),
    leaf(4, 0, 0, 0, 0, 3),
    leaf(5, 0, 0, 0, 0),
    leaf(6, 0x4, 0, 0, 0),
    leaf(7, 0, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX, 0),
    leaf(0xa, 0, 0, 0, 0),
    leaf(0xd, 7, XSAVE_SIZE, XSAVE_SIZE + AVX_SIZE, 0, 0),
    leaf(0xd, XSAVE_FEATURES, XSAVE_SIZE, 0, 0, 1),
    leaf(0xd, AVX_SIZE, XSAVE_SIZE, 0, 0, 2),
    leaf(0x15, 1, 1, TSC_HZ, 0),
    leaf(0x16, TSC_HZ / 1e6, TSC_HZ / 1e6, 100, 0),
    // KVM's paravirtual leaves: clock source 2 with stable TSC, and its frequencies.
    leaf(0x40000000, 0x40000010, k0, k1, k2),
    leaf(0x40000001, bits(/* NOP_IO_DELAY */ 1, /* CLOCKSOURCE2 */ 3, /* CLOCKSOURCE_STABLE */ 24), 0, 0, 0),
    leaf(0x40000010, TSC_HZ / 1000, 1e9 / 1000, 0, 0),
    leaf(0x80000000, 0x80000008, 0, 0, 0),
    leaf(0x80000001, 0, 0, EXTENDED_ECX, EXTENDED_EDX),
    brandLeaf(0),
    brandLeaf(1),
    brandLeaf(2),
    leaf(0x80000006, 0, 0, (1024 << 16) | (8 << 12) | 64, 0),
    leaf(0x80000007, 0, 0, 0, bits(/* invariant TSC */ 8)),
    leaf(0x80000008, (48 << 8) | PHYSICAL_ADDRESS_BITS, 0, 0, 0),
  ];
}
