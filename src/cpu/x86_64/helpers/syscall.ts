// Fast system calls and the bases of FS and GS (SDM volume 2: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, RDFSBASE).

import {
  CR0,
  CR4,
  EFER,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  FLAGS,
  GPR,
  HOST_VALUE,
  MSR_KERNEL_GS_BASE,
  MSR_LSTAR,
  MSR_SFMASK,
  MSR_STAR,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  NEXT_RIP,
  RCX,
  RDX,
  RIP,
  RSP,
  SEG_GS,
  SEG_O_BASE,
  STATUS_JUMP,
  STATUS_OK,
  TRAP_ARMED,
} from '../layout';
import { get_rflags, set_rflags } from './flags';
import { cpl, is_64bit, is_canonical, is_long, segment, set_segment, update_mode } from './mode';
import { raise, raise_error } from './raise';
import {
  ATTR_FLAT_CODE32,
  ATTR_FLAT_CODE64,
  ATTR_FLAT_DATA,
  CR0_PE,
  CR4_FSGSBASE,
  EFER_SCE,
  GP,
  INDEX_CS,
  INDEX_SS,
  UD,
} from './registers';
import { jump_and_look } from './returns';

const R11: usize = GPR + 11 * 8;

/** Flat code and stack segments at privilege level `level`. */
function set_flat(cs: u32, ss: u32, long: bool, level: u32): void {
  const code: u32 = long ? ATTR_FLAT_CODE64 : ATTR_FLAT_CODE32;
  set_segment(INDEX_CS, cs, 0, 0xffffffff, code | (level << 5));
  set_segment(INDEX_SS, ss, 0, 0xffffffff, ATTR_FLAT_DATA | (level << 5));
}

/** SYSCALL: 64-bit mode only, as on Intel's processors. */
export function syscall(): i32 {
  if (!is_64bit() || !(load<u32>(EFER) & EFER_SCE)) return raise(UD);
  const flags = get_rflags() & ~FLAG_RF;
  store<u64>(RCX, load<u64>(NEXT_RIP));
  store<u64>(R11, flags);
  store<u64>(RIP, load<u64>(MSR_LSTAR));
  set_rflags((flags & ~load<u32>(MSR_SFMASK)) | 2);
  if (!(load<u32>(FLAGS) & FLAG_TF)) store<u32>(TRAP_ARMED, 0);
  const selector = load<u32>(MSR_STAR, 4) & 0xfffc;
  set_flat(selector, (selector + 8) & 0xffff, true, 0);
  update_mode();
  return STATUS_JUMP;
}

/** SYSRET: `size` 8 to 64-bit mode, 4 to compatibility mode. */
export function sysret(size: i32): i32 {
  if (!is_64bit() || !(load<u32>(EFER) & EFER_SCE)) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  const long = size == 8;
  const target = load<u64>(RCX);
  // Checked at the kernel's level: Intel's order.
  if (long && !is_canonical(target)) return raise_error(GP, 0);
  const selector = load<u32>(MSR_STAR, 4) >> 16;
  set_flat(((selector + (long ? 16 : 0)) & 0xffff) | 3, ((selector + 8) & 0xffff) | 3, long, 3);
  store<u64>(RIP, long ? target : target & 0xffffffff);
  set_rflags((load<u32>(R11) & 0x003c7fd7) | 2);
  update_mode();
  return jump_and_look();
}

/** SYSENTER: protected, compatibility and 64-bit mode. */
export function sysenter(): i32 {
  const selector = load<u32>(MSR_SYSENTER_CS) & 0xfffc;
  if (!(load<u32>(CR0) & CR0_PE) || selector == 0) return raise_error(GP, 0);
  const long = is_long();
  store<u32>(FLAGS, load<u32>(FLAGS) & ~(FLAG_VM | FLAG_IF | FLAG_RF));
  store<u64>(RSP, long ? load<u64>(MSR_SYSENTER_ESP) : load<u32>(MSR_SYSENTER_ESP));
  store<u64>(RIP, long ? load<u64>(MSR_SYSENTER_EIP) : load<u32>(MSR_SYSENTER_EIP));
  set_flat(selector, (selector + 8) & 0xffff, long, 0);
  update_mode();
  return STATUS_JUMP;
}

/** SYSEXIT: `size` 8 to 64-bit code, else to 32-bit code. */
export function sysexit(size: i32): i32 {
  const selector = load<u32>(MSR_SYSENTER_CS) & 0xfffc;
  if (!(load<u32>(CR0) & CR0_PE) || selector == 0 || cpl()) return raise_error(GP, 0);
  const long = size == 8;
  const ip = load<u64>(RDX);
  const sp = load<u64>(RCX);
  if (long && (!is_canonical(ip) || !is_canonical(sp))) return raise_error(GP, 0);
  const code = selector + (long ? 32 : 16);
  set_flat((code & 0xffff) | 3, ((code + 8) & 0xffff) | 3, long, 3);
  store<u64>(RIP, long ? ip : ip & 0xffffffff);
  store<u64>(RSP, long ? sp : sp & 0xffffffff);
  update_mode();
  return STATUS_JUMP;
}

/** SWAPGS. */
export function swapgs(): i32 {
  if (!is_64bit()) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  const base = load<u64>(SEG_GS, SEG_O_BASE);
  store<u64>(SEG_GS, load<u64>(MSR_KERNEL_GS_BASE), SEG_O_BASE);
  store<u64>(MSR_KERNEL_GS_BASE, base);
  return STATUS_OK;
}

/** RDFSBASE, RDGSBASE (`index` as in SEG): the base to HOST_VALUE. */
export function rdfsgsbase(index: i32): i32 {
  if (!is_64bit() || !(load<u32>(CR4) & CR4_FSGSBASE)) return raise(UD);
  store<u64>(HOST_VALUE, load<u64>(segment(index), SEG_O_BASE));
  return STATUS_OK;
}

/** WRFSBASE, WRGSBASE; a 32-bit operand comes zero-extended. */
export function wrfsgsbase(index: i32, value: u64): i32 {
  if (!is_64bit() || !(load<u32>(CR4) & CR4_FSGSBASE)) return raise(UD);
  if (!is_canonical(value)) return raise_error(GP, 0);
  store<u64>(segment(index), value, SEG_O_BASE);
  return STATUS_OK;
}
