// Writing CR0, CR3 and CR4: every check, and what follows from a change (SDM volume 3, sections 2.5, 4.1, 4.10.4, 9.8.5).

import { ATTR_L, ATTR_UNUSABLE, CR0, CR3, CR4, EFER, PDPTE, SEG_CS, SEG_O_ATTR, SEG_TR, STATUS_NEXT } from '../layout';
import { tlb_flush } from './access';
import { cpuid_ebx, cpuid_ecx, cpuid_find, physical_bits } from './cpuid';
import { is_64bit, is_long, update_mode } from './mode';
import { raise_error } from './raise';
import { ram_read64 } from './ram';
import {
  CR0_CD,
  CR0_ET,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_FSGSBASE,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  CR4_UMIP,
  EFER_LMA,
  EFER_LME,
  GP,
} from './registers';

/** PE MP EM TS ET NE WP AM NW CD PG; the other bits of the low half are ignored. */
const CR0_KNOWN: u32 = 0xe005003f;
/** VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT: on every processor with long mode. */
const CR4_BASIC: u32 = 0x7ff;

/** PAE paging without IA-32e mode: the page-directory-pointer table is in registers. */
export function is_pae_paging(): bool {
  return (load<u32>(CR0) & CR0_PG) != 0 && (load<u32>(CR4) & CR4_PAE) != 0 && !is_long();
}

/** Loads PDPTE0..3 from the table at CR3's address; false, with nothing changed, if a present one has reserved bits. */
function load_pdptes_at(cr3: u64): bool {
  const table = cr3 & 0xffffffe0;
  const reserved: u64 = (~(<u64>0) << physical_bits()) | 0x1e6;
  for (let i: u64 = 0; i < 4; i++) {
    const entry = ram_read64(table + i * 8);
    if (entry & 1 && entry & reserved) return false;
  }
  for (let i: u32 = 0; i < 4; i++) store<u64>(PDPTE + i * 8, ram_read64(table + i * 8));
  return true;
}

/** As above, at the current CR3. */
export function load_pdptes(): bool {
  return load_pdptes_at(load<u64>(CR3));
}

/** Writes CR0. #GP(0), or STATUS_NEXT. */
export function load_cr0(value: u64): i32 {
  if (value >> 32) return raise_error(GP, 0);
  const next = (<u32>value & CR0_KNOWN) | CR0_ET;
  const old = load<u32>(CR0);
  const cr4 = load<u32>(CR4);
  const efer = load<u32>(EFER);
  const changed = old ^ next;
  const paging = (next & CR0_PG) != 0;
  if (paging && !(next & CR0_PE)) return raise_error(GP, 0);
  if (next & CR0_NW && !(next & CR0_CD)) return raise_error(GP, 0);
  if (!paging && (cr4 & CR4_PCIDE || (is_64bit() && changed & CR0_PG))) return raise_error(GP, 0);
  const long = paging && (efer & EFER_LME) != 0;
  if (long && changed & CR0_PG) {
    const tr = load<u32>(SEG_TR, SEG_O_ATTR);
    // Types 1 and 3: a 16-bit TSS.
    const tss16 = (tr & 0xd) == 1 && !(tr & ATTR_UNUSABLE);
    if (!(cr4 & CR4_PAE) || load<u32>(SEG_CS, SEG_O_ATTR) & ATTR_L || tss16) return raise_error(GP, 0);
  }
  if (paging && cr4 & CR4_PAE && !long && changed & (CR0_PG | CR0_CD | CR0_NW) && !load_pdptes()) {
    return raise_error(GP, 0);
  }
  store<u64>(CR0, next);
  if (changed & CR0_PG) store<u64>(EFER, (efer & ~EFER_LMA) | (long ? EFER_LMA : 0));
  if (changed & (CR0_PG | CR0_WP | CR0_PE)) tlb_flush(1);
  update_mode();
  return STATUS_NEXT;
}

/** Writes CR3. With CR4.PCIDE bit 63 asks to keep translations: the TLB has no PCIDs, so that it is ignored. */
export function load_cr3(value: u64): i32 {
  let next = value;
  if (is_long()) {
    if (load<u32>(CR4) & CR4_PCIDE) next &= ~((<u64>1) << 63);
    if (next >> physical_bits()) return raise_error(GP, 0);
  } else {
    next &= 0xffffffff;
    if (is_pae_paging() && !load_pdptes_at(next)) return raise_error(GP, 0);
  }
  store<u64>(CR3, next);
  tlb_flush(0);
  return STATUS_NEXT;
}

/** CR4 bits that this processor has by its CPUID. */
function cr4_known(): u32 {
  let known = CR4_BASIC;
  if (cpuid_find(1, 0)) {
    const ecx = cpuid_ecx();
    if (ecx & (1 << 17)) known |= CR4_PCIDE;
    if (ecx & (1 << 26)) known |= CR4_OSXSAVE;
  }
  if (cpuid_find(7, 0)) {
    const ebx = cpuid_ebx();
    if (ebx & 1) known |= CR4_FSGSBASE;
    if (ebx & (1 << 7)) known |= CR4_SMEP;
    if (ebx & (1 << 20)) known |= CR4_SMAP;
    if (cpuid_ecx() & (1 << 2)) known |= CR4_UMIP;
  }
  return known;
}

/** Writes CR4. #GP(0), or STATUS_NEXT. */
export function load_cr4(value: u64): i32 {
  if (value >> 32 || <u32>value & ~cr4_known()) return raise_error(GP, 0);
  const next = <u32>value;
  const old = load<u32>(CR4);
  const changed = old ^ next;
  if (is_long() && !(next & CR4_PAE)) return raise_error(GP, 0);
  if (changed & next & CR4_PCIDE && (!is_long() || load<u32>(CR3) & 0xfff)) return raise_error(GP, 0);
  const translation = CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP;
  const pae = (load<u32>(CR0) & CR0_PG) != 0 && (next & CR4_PAE) != 0 && !is_long();
  if (pae && changed & translation && !load_pdptes()) return raise_error(GP, 0);
  store<u64>(CR4, next);
  if (changed & (translation | CR4_SMAP | CR4_PCIDE)) tlb_flush(1);
  update_mode();
  return STATUS_NEXT;
}
