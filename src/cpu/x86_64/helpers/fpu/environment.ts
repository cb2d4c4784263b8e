// FNSTENV, FLDENV, FNSAVE, FRSTOR (SDM volume 1, section 8.1.10): the x87 state in memory, in four formats.

import { FCS, FCW, FDP, FDS, FIP, FOP, FPU_AREA, FSW, FTW, MODE, MODE_REAL, STATUS_OK } from '../../layout';
import { check_alignment, cpl_read_bytes, cpl_write_bytes, probe_write } from '../access';
import { tag_of } from './save';
import { st } from './stack';
import { fpu_available, fpu_enter, reset_fpu, summarize } from './state';

const REGISTER_SIZE: u32 = 10;
const ALL_MASKED: u32 = 0x3f;
const SUMMARY: u32 = 0x8080;

function environment_size(size: i32): u32 {
  return size == 2 ? 14 : 28;
}

function is_real(): bool {
  return (load<u32>(MODE) & MODE_REAL) != 0;
}

/** Tag word with the classes of the registers in use. */
function tag_word(): u32 {
  const before = load<u32>(FTW);
  let tags: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    const shift = i * 2;
    tags |= (((before >> shift) & 3) == 3 ? 3 : tag_of(i)) << shift;
  }
  return tags;
}

/** Pointers in real mode are linear: 20 bits with 16-bit operands, else 32. */
function real_pointer(selector: usize, offset: usize): u32 {
  return ((load<u32>(selector) & 0xffff) << 4) + load<u32>(offset);
}

function put_environment(size: i32): void {
  const control = load<u32>(FCW);
  const status = load<u32>(FSW);
  const tags = tag_word();
  const opcode = load<u32>(FOP) & 0x7ff;
  const real = is_real();
  const ip = real ? real_pointer(FCS, FIP) : load<u32>(FIP);
  const dp = real ? real_pointer(FDS, FDP) : load<u32>(FDP);
  if (size == 2) {
    store<u16>(FPU_AREA, <u16>control);
    store<u16>(FPU_AREA, <u16>status, 2);
    store<u16>(FPU_AREA, <u16>tags, 4);
    store<u16>(FPU_AREA, <u16>ip, 6);
    store<u16>(FPU_AREA, <u16>(real ? ((ip >> 4) & 0xf000) | opcode : load<u32>(FCS)), 8);
    store<u16>(FPU_AREA, <u16>dp, 10);
    store<u16>(FPU_AREA, <u16>(real ? (dp >> 4) & 0xf000 : load<u32>(FDS)), 12);
    return;
  }
  // Reserved halves are ones.
  store<u32>(FPU_AREA, 0xffff0000 | control);
  store<u32>(FPU_AREA, 0xffff0000 | status, 4);
  store<u32>(FPU_AREA, 0xffff0000 | tags, 8);
  if (real) {
    store<u32>(FPU_AREA, 0xffff0000 | ip, 12);
    store<u32>(FPU_AREA, ((ip >> 4) & 0x0ffff000) | opcode, 16);
    store<u32>(FPU_AREA, 0xffff0000 | dp, 20);
    store<u32>(FPU_AREA, (dp >> 4) & 0x0ffff000, 24);
  } else {
    store<u32>(FPU_AREA, ip, 12);
    store<u32>(FPU_AREA, (opcode << 16) | (load<u32>(FCS) & 0xffff), 16);
    store<u32>(FPU_AREA, dp, 20);
    store<u32>(FPU_AREA, 0xffff0000 | load<u32>(FDS), 24);
  }
}

function take_environment(size: i32): void {
  const step: usize = size == 2 ? 2 : 4;
  store<u32>(FCW, (load<u16>(FPU_AREA) & 0x1f3f) | 0x40);
  store<u32>(FSW, load<u16>(FPU_AREA + step));
  store<u32>(FTW, load<u16>(FPU_AREA + 2 * step));
  let ip: u32;
  let dp: u32;
  if (size == 2) {
    const high_ip: u32 = load<u16>(FPU_AREA, 8);
    const high_dp: u32 = load<u16>(FPU_AREA, 12);
    ip = load<u16>(FPU_AREA, 6);
    dp = load<u16>(FPU_AREA, 10);
    if (is_real()) {
      ip |= (high_ip & 0xf000) << 4;
      dp |= (high_dp & 0xf000) << 4;
    }
    store<u32>(FCS, is_real() ? 0 : high_ip);
    store<u32>(FDS, is_real() ? 0 : high_dp);
    store<u32>(FOP, is_real() ? high_ip & 0x7ff : 0);
  } else if (is_real()) {
    const high_ip = load<u32>(FPU_AREA, 16);
    ip = load<u16>(FPU_AREA, 12) | ((high_ip & 0x0ffff000) << 4);
    dp = load<u16>(FPU_AREA, 20) | ((load<u32>(FPU_AREA, 24) & 0x0ffff000) << 4);
    store<u32>(FCS, 0);
    store<u32>(FDS, 0);
    store<u32>(FOP, high_ip & 0x7ff);
  } else {
    ip = load<u32>(FPU_AREA, 12);
    dp = load<u32>(FPU_AREA, 20);
    store<u32>(FCS, load<u16>(FPU_AREA, 16));
    store<u32>(FOP, load<u16>(FPU_AREA, 18) & 0x7ff);
    store<u32>(FDS, load<u16>(FPU_AREA, 24));
  }
  store<u64>(FIP, ip);
  store<u64>(FDP, dp);
  summarize();
}

/** FNSTENV with `size` 2 or 4 (8 is as 4). Masks all exceptions. */
export function fpu_store_environment(linear: u64, size: i32): i32 {
  let status = fpu_available();
  if (status != STATUS_OK) return status;
  status = check_alignment(linear, size == 2 ? 2 : 4);
  if (status == STATUS_OK) status = probe_write(linear, environment_size(size), true);
  if (status != STATUS_OK) return status;
  put_environment(size);
  status = cpl_write_bytes(linear, environment_size(size), FPU_AREA);
  if (status != STATUS_OK) return status;
  store<u32>(FCW, load<u32>(FCW) | ALL_MASKED);
  store<u32>(FSW, load<u32>(FSW) & ~SUMMARY);
  return STATUS_OK;
}

/** FLDENV. */
export function fpu_load_environment(linear: u64, size: i32): i32 {
  let status = fpu_enter();
  if (status == STATUS_OK) status = check_alignment(linear, size == 2 ? 2 : 4);
  if (status == STATUS_OK) status = cpl_read_bytes(linear, environment_size(size), FPU_AREA);
  if (status == STATUS_OK) take_environment(size);
  return status;
}

/** FNSAVE: then the state is as after FNINIT. */
export function fpu_save(linear: u64, size: i32): i32 {
  let status = fpu_available();
  if (status != STATUS_OK) return status;
  const from = environment_size(size);
  status = check_alignment(linear, size == 2 ? 2 : 4);
  if (status == STATUS_OK) status = probe_write(linear, from + 8 * REGISTER_SIZE, true);
  if (status != STATUS_OK) return status;
  put_environment(size);
  for (let i: u32 = 0; i < 8; i++) memory.copy(FPU_AREA + from + i * REGISTER_SIZE, st(i), REGISTER_SIZE);
  status = cpl_write_bytes(linear, from + 8 * REGISTER_SIZE, FPU_AREA);
  if (status == STATUS_OK) reset_fpu();
  return status;
}

/** FRSTOR. */
export function fpu_restore(linear: u64, size: i32): i32 {
  let status = fpu_enter();
  const from = environment_size(size);
  if (status == STATUS_OK) status = check_alignment(linear, size == 2 ? 2 : 4);
  if (status == STATUS_OK) status = cpl_read_bytes(linear, from + 8 * REGISTER_SIZE, FPU_AREA);
  if (status != STATUS_OK) return status;
  take_environment(size);
  for (let i: u32 = 0; i < 8; i++) memory.copy(st(i), FPU_AREA + from + i * REGISTER_SIZE, REGISTER_SIZE);
  return STATUS_OK;
}
