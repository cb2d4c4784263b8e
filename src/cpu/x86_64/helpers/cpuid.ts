// CPUID: the table that setCpuid() filled, and the bits that follow the processor's state (SDM volume 2, CPUID).

import {
  CPUID_ENTRIES,
  CPUID_ENTRY,
  CPUID_TABLE,
  CR4,
  MSR_APIC_BASE,
  MSR_XSS,
  RAX,
  RBX,
  RCX,
  RDX,
  STATUS_OK,
  XCR0,
} from '../layout';
import { CR4_OSXSAVE } from './registers';

const O_LEAF = 0;
const O_SUBLEAF = 4;
const O_FLAGS = 8;
const O_EAX = 12;
const O_EBX = 16;
const O_ECX = 20;
const O_EDX = 24;

/** Most entries that the table has room for. */
const ENTRIES_MAX: u32 = 1024;

/** The entry found last. */
let entry: usize = 0;

/** Finds the entry of a leaf and, where the leaf has them, a subleaf. */
export function cpuid_find(leaf: u32, subleaf: u32): bool {
  const count = min(load<u32>(CPUID_TABLE), ENTRIES_MAX);
  let at: usize = CPUID_ENTRIES;
  for (let i: u32 = 0; i < count; i++) {
    if (load<u32>(at, O_LEAF) == leaf && (!(load<u32>(at, O_FLAGS) & 1) || load<u32>(at, O_SUBLEAF) == subleaf)) {
      entry = at;
      return true;
    }
    at += CPUID_ENTRY;
  }
  return false;
}

export function cpuid_eax(): u32 {
  return load<u32>(entry, O_EAX);
}

export function cpuid_ebx(): u32 {
  return load<u32>(entry, O_EBX);
}

export function cpuid_ecx(): u32 {
  return load<u32>(entry, O_ECX);
}

export function cpuid_edx(): u32 {
  return load<u32>(entry, O_EDX);
}

/** MAXPHYADDR; 36 where CPUID does not tell. */
export function physical_bits(): u64 {
  if (!cpuid_find(0x80000008, 0)) return 36;
  const bits = <u64>(cpuid_eax() & 0xff);
  return bits >= 32 && bits <= 52 ? bits : 36;
}

/** Largest leaf of the range that a leaf is in; 0 where the range is empty. */
function range_end(leaf: u32): u32 {
  return cpuid_find(leaf & 0xf0000000, 0) ? cpuid_eax() : 0;
}

function answer(eax: u32, ebx: u32, ecx: u32, edx: u32): void {
  store<u64>(RAX, eax);
  store<u64>(RBX, ebx);
  store<u64>(RCX, ecx);
  store<u64>(RDX, edx);
}

/** CPUID: EAX, EBX, ECX, EDX. */
export function cpuid(): i32 {
  let leaf = load<u32>(RAX);
  const subleaf = load<u32>(RCX);
  // Beyond its range a leaf shows the data of the highest basic one.
  const end = range_end(leaf);
  if (leaf > end || (end == 0 && leaf != 0)) leaf = range_end(0);
  if (!cpuid_find(leaf, subleaf)) {
    answer_absent(leaf, subleaf);
    return STATUS_OK;
  }
  const eax = cpuid_eax();
  let ebx = cpuid_ebx();
  let ecx = cpuid_ecx();
  let edx = cpuid_edx();
  if (leaf == 1) {
    // OSXSAVE; APIC, if it is on.
    ecx = (ecx & ~((<u32>1) << 27)) | (load<u32>(CR4) & CR4_OSXSAVE ? 1 << 27 : 0);
    if (!(load<u32>(MSR_APIC_BASE) & (1 << 11))) edx &= ~((<u32>1) << 9);
  } else if (leaf == 0xd && subleaf < 2) {
    const components = subleaf == 0 ? load<u64>(XCR0) : load<u64>(XCR0) | load<u64>(MSR_XSS);
    // Without XSAVEC (bit 1 of the subleaf's EAX) there is no compacted form.
    if (subleaf == 0 || eax & 2) ebx = xsave_size(components, subleaf == 1);
  }
  answer(eax, ebx, ecx, edx);
  return STATUS_OK;
}

/** A leaf, or subleaf, without an entry. */
function answer_absent(leaf: u32, subleaf: u32): void {
  // The topology leaves keep ECX[7:0] and the x2APIC id valid in subleaves without a level.
  const topology = (leaf == 0xb || leaf == 0x1f) && cpuid_find(leaf, 0);
  answer(0, 0, topology ? subleaf & 0xff : 0, topology ? cpuid_edx() : 0);
}

/** Bytes of an XSAVE area with these components (SDM volume 1, sections 13.4.2 and 13.4.3). */
function xsave_size(components: u64, compacted: bool): u32 {
  let size: u32 = 576;
  for (let i: u32 = 2; i < 63; i++) {
    if (!((components >> i) & 1) || !cpuid_find(0xd, i)) continue;
    const bytes = cpuid_eax();
    if (compacted) {
      if (cpuid_ecx() & 2) size = (size + 63) & ~(<u32>63);
      size += bytes;
    } else {
      size = max(size, cpuid_ebx() + bytes);
    }
  }
  return size;
}
