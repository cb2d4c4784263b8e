// Delivery of interrupts and exceptions (SDM volume 3, chapter 6; volume 2, INT n).

import {
  ACTIVITY,
  COUNT_EXCEPTIONS,
  COUNT_INTERRUPTS,
  CR2,
  DEBUG_HIT,
  DR6,
  DR7,
  EXC_ADDRESS,
  EXC_ERROR,
  EXC_FLAGS,
  EXC_VECTOR,
  EXIT_INTERNAL_ERROR,
  EXIT_REASON,
  EXIT_SHUTDOWN,
  FLAG_OF,
  FLAG_RF,
  MODE,
  MODE_REAL,
  NEXT_RIP,
  NMI_BLOCKED,
  OUTER_HIT,
  RIP,
  SHADOW,
  STATUS_EXIT,
  STATUS_FAULT,
  STATUS_JUMP,
  STATUS_OK,
  TRAP_ARMED,
} from '../layout';
import { get_arith, get_rflags } from './flags';
import { deliver_protected, deliver_real } from './gates';
import { is_v86, update_mode } from './mode';
import { raise } from './raise';
import { BP, DB, DE, DF, DR6_B, DR6_BD, DR6_FIXED, DR7_GD, GP, OF, PF, TS, UD } from './registers';
import { redirect_v86, V86_DELIVERED, V86_PROTECTED } from './v86';

/** What an event comes from. */
export const KIND_EXTERNAL = 0;
export const KIND_NMI = 1;
/** INT n. */
export const KIND_SOFTWARE = 2;
/** INT3, INTO. */
export const KIND_TRAP = 3;
export const KIND_INT1 = 4;
export const KIND_EXCEPTION = 5;

/** DE, TS, NP, SS, GP: a second one of these while one is delivered is a double fault. */
function is_contributory(vector: u32): bool {
  return vector == DE || (vector >= TS && vector <= GP);
}

/** Effects of an exception on CR2, DR6 and DR7, which stand even if its delivery fails. */
function note_exception(vector: u32): void {
  if (vector == PF) {
    store<u64>(CR2, load<u64>(EXC_ADDRESS));
  } else if (vector == DB) {
    note_debug(load<u32>(EXC_ADDRESS));
  }
}

function note_debug(bits: u32): void {
  store<u64>(DR6, (load<u64>(DR6) & ~(<u64>DR6_B)) | bits | DR6_FIXED);
  store<u64>(DR7, load<u64>(DR7) & ~(<u64>DR7_GD));
}

/** RFLAGS as a fault pushes them: RF set, so that an execution breakpoint is not met again. */
function image_of(vector: u32, kind: i32): u32 {
  const flags = get_rflags();
  if (kind == KIND_EXCEPTION) {
    // Traps and instruction breakpoints push RF as it is; all other exceptions here are faults or aborts.
    if (vector != DB || load<u32>(DR6) & DR6_BD) return flags | FLAG_RF;
    return flags;
  }
  return kind >= KIND_SOFTWARE ? flags & ~FLAG_RF : flags;
}

/** One attempt. STATUS_JUMP, or STATUS_FAULT with the next exception in EXC_*. */
function deliver(vector: u32, kind: i32, has_error: bool, error: u32, ip: u64): i32 {
  const image = image_of(vector, kind);
  if ((load<u32>(MODE) & MODE_REAL) != 0 && !is_v86()) return deliver_real(vector, image, ip);
  if (kind == KIND_SOFTWARE && is_v86()) {
    const status = redirect_v86(vector, ip);
    if (status == V86_DELIVERED) return STATUS_JUMP;
    if (status != V86_PROTECTED) return status;
  }
  const ext: u32 = kind == KIND_SOFTWARE || kind == KIND_TRAP ? 0 : 1;
  const checks_dpl = ext == 0;
  return deliver_protected(vector, ext, checks_dpl, has_error, error, image, ip);
}

function finish(): i32 {
  update_mode();
  store<u32>(SHADOW, 0);
  store<u32>(ACTIVITY, 0);
  // The event took the place of the single step's trap: it saved RFLAGS.TF.
  store<u32>(TRAP_ARMED, 0);
  return STATUS_JUMP;
}

function shut_down(): i32 {
  store<u32>(ACTIVITY, 3);
  store<u32>(EXIT_REASON, EXIT_SHUTDOWN);
  return STATUS_EXIT;
}

/** Delivers an event, and what its delivery raises in turn: STATUS_JUMP or STATUS_EXIT. */
function deliver_all(first: u32, first_kind: i32, first_has_error: bool, first_error: u32): i32 {
  let vector = first;
  let kind = first_kind;
  let has_error = first_has_error;
  let error = first_error;
  while (true) {
    if (kind == KIND_EXCEPTION) note_exception(vector);
    const status = deliver(vector, kind, has_error, error, load<u64>(RIP));
    if (status == STATUS_JUMP) return finish();
    if (status != STATUS_FAULT) {
      // A table or a stack in a device's registers: the delivery cannot be restarted as an instruction can.
      store<u32>(EXIT_REASON, EXIT_INTERNAL_ERROR);
      return STATUS_EXIT;
    }
    const second = load<u32>(EXC_VECTOR);
    const contributory = is_contributory(second);
    if (kind == KIND_EXCEPTION && vector == DF && (contributory || second == PF)) return shut_down();
    const twice =
      kind == KIND_EXCEPTION &&
      ((is_contributory(vector) && contributory) || (vector == PF && (contributory || second == PF)));
    if (twice && second == PF) note_exception(PF);
    vector = twice ? DF : second;
    has_error = twice || (load<u32>(EXC_FLAGS) & 1) != 0;
    error = twice ? 0 : load<u32>(EXC_ERROR);
    kind = KIND_EXCEPTION;
  }
}

/** Delivers the exception in EXC_* at RIP. STATUS_JUMP, or STATUS_EXIT (shutdown). */
export function deliver_exception(): i32 {
  if (load<u32>(EXC_VECTOR) != DB) {
    // The instruction did not happen, nor what it would have done to memory.
    store<u32>(DEBUG_HIT, 0);
    store<u32>(OUTER_HIT, 0);
  }
  store<u64>(COUNT_EXCEPTIONS, load<u64>(COUNT_EXCEPTIONS) + 1);
  const has_error = (load<u32>(EXC_FLAGS) & 1) != 0;
  return deliver_all(load<u32>(EXC_VECTOR), KIND_EXCEPTION, has_error, load<u32>(EXC_ERROR));
}

/**
 * Delivers an interrupt between instructions, RIP being the next one: kind 0 external, 1 NMI. The software kinds (2 INT n,
 * 3 INT3 and INTO, 4 INT1) are within their instruction: they return to NEXT_RIP, and STATUS_FAULT leaves their own
 * faults to the engine.
 */
export function deliver_interrupt(vector: i32, kind: i32): i32 {
  if (kind >= KIND_SOFTWARE) return software(vector, kind);
  store<u64>(COUNT_INTERRUPTS, load<u64>(COUNT_INTERRUPTS) + 1);
  if (kind == KIND_NMI) store<u32>(NMI_BLOCKED, 1);
  return deliver_all(vector, kind, false, 0);
}

function software(vector: u32, kind: i32): i32 {
  const status = deliver(vector, kind, false, 0, load<u64>(NEXT_RIP));
  if (status != STATUS_JUMP) return status;
  store<u64>(COUNT_EXCEPTIONS, load<u64>(COUNT_EXCEPTIONS) + 1);
  return finish();
}

/** INT n. */
export function int_n(vector: i32): i32 {
  return software(vector & 0xff, KIND_SOFTWARE);
}

/** INT3. */
export function int3(): i32 {
  return software(BP, KIND_TRAP);
}

/** INTO. */
export function into(): i32 {
  return get_arith() & FLAG_OF ? software(OF, KIND_TRAP) : STATUS_OK;
}

/** INT1: #DB without a bit in DR6; the gate's DPL is not checked. */
export function int1(): i32 {
  note_debug(0);
  return software(DB, KIND_INT1);
}

/** UD2 and its like. */
export function undefined_opcode(): i32 {
  return raise(UD);
}
