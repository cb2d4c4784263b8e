// Debug registers, breakpoints and single-step (SDM volume 3, chapter 17).
//
// While MODE_DEBUG is set the Vcpu executes one instruction at a time: check_exec_breakpoint(), the instruction,
// debug_trap(). Either returning STATUS_FAULT, deliver_exception() is called with RIP as it is then.

import {
  CR4,
  DEBUG_HIT,
  DR,
  DR6,
  DR7,
  EXC_ADDRESS,
  FLAG_RF,
  FLAG_TF,
  FLAGS,
  HOST_VALUE,
  RIP,
  SEG_CS,
  SEG_O_BASE,
  SHADOW,
  SHADOW_RIP,
  STATUS_NEXT,
  STATUS_OK,
  TRAP_ARMED,
} from '../layout';
import { tlb_flush } from './access';
import { cpl, is_64bit, update_mode } from './mode';
import { raise, raise_error } from './raise';
import { CR4_DE, DB, DR6_BD, DR6_BS, DR6_FIXED, DR7_FIXED, DR7_GD, GP, UD } from './registers';

/** Raises #DB with bits for DR6. */
export function raise_debug(bits: u32): i32 {
  const status = raise(DB);
  store<u64>(EXC_ADDRESS, bits);
  return status;
}

/** Checks of a MOV from or to debug register `index`; the register's own number is in debug_index after STATUS_OK. */
function check_debug_register(index: i32): i32 {
  if (index > 7 || ((index == 4 || index == 5) && load<u32>(CR4) & CR4_DE)) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  if (load<u32>(DR7) & DR7_GD) return raise_debug(DR6_BD);
  // Without CR4.DE, DR4 and DR5 are other names of DR6 and DR7.
  debug_index = index == 4 || index == 5 ? index + 2 : index;
  return STATUS_OK;
}

let debug_index: i32 = 0;

/** MOV from a debug register, to HOST_VALUE. */
export function mov_from_dr(index: i32): i32 {
  const status = check_debug_register(index);
  if (status != STATUS_OK) return status;
  store<u64>(HOST_VALUE, load<u64>(DR + debug_index * 8));
  return STATUS_OK;
}

/** MOV to a debug register. */
export function mov_to_dr(index: i32, value: u64): i32 {
  const status = check_debug_register(index);
  if (status != STATUS_OK) return status;
  if (debug_index >= 6 && value >> 32) return raise_error(GP, 0);
  if (debug_index == 6) {
    store<u64>(DR6, (value & 0xe00f) | DR6_FIXED);
    return STATUS_OK;
  }
  if (debug_index == 7) store<u64>(DR7, (value & 0xffff23ff) | DR7_FIXED);
  else store<u64>(DR + debug_index * 8, value);
  // Pages with data breakpoints must not have short ways in the TLB.
  tlb_flush(1);
  update_mode();
  return STATUS_NEXT;
}

/** Before an instruction: #DB (STATUS_FAULT) at an execution breakpoint. Spends RF, and notes whether TF is set. */
export function check_exec_breakpoint(): i32 {
  const flags = load<u32>(FLAGS);
  store<u32>(TRAP_ARMED, flags & FLAG_TF);
  if (flags & FLAG_RF) {
    store<u32>(FLAGS, flags & ~FLAG_RF);
    return STATUS_OK;
  }
  const ip = load<u64>(RIP);
  const linear = is_64bit() ? ip : (ip + load<u64>(SEG_CS, SEG_O_BASE)) & 0xffffffff;
  const dr7 = load<u32>(DR7);
  let hits: u32 = 0;
  for (let i: u32 = 0; i < 4; i++) {
    const enabled = ((dr7 >> (i * 2)) & 3) != 0;
    // R/W and LEN are 0 for execution.
    if (enabled && ((dr7 >> (16 + i * 4)) & 15) == 0 && load<u64>(DR + i * 8) == linear) hits |= 1 << i;
  }
  return hits ? raise_debug(hits) : STATUS_OK;
}

/** After an instruction, RIP being the next: #DB (STATUS_FAULT) for a single step and for data breakpoints. */
export function debug_trap(): i32 {
  // MOV SS holds debug traps back for one instruction; data breakpoints stay pending, a single step is lost.
  if (load<u32>(SHADOW) & 2 && load<u64>(SHADOW_RIP) == load<u64>(RIP)) return STATUS_OK;
  const bits = load<u32>(DEBUG_HIT) | (load<u32>(TRAP_ARMED) ? DR6_BS : 0);
  store<u32>(DEBUG_HIT, 0);
  store<u32>(TRAP_ARMED, 0);
  return bits ? raise_debug(bits) : STATUS_OK;
}
