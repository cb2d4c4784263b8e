// String instructions (SDM volume 2: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, REP; MASKMOVDQU).
//
// A call does a bounded number of iterations: more are left to the next time that the instruction is met, so that
// interrupts come in between, as they do on a processor. Registers are true after each iteration.

import {
  CC_A,
  CC_B,
  CC_KIND,
  CC_KIND_SUB,
  CC_RES,
  FLAG_DF,
  FLAGS,
  IO_DATA,
  MMIO_POSTED,
  MODE,
  MODE_DEBUG,
  MODE_STEP,
  NEXT_RIP,
  R_PREFIX,
  R_SEG,
  RAX,
  RCX,
  RDI,
  RDX,
  RIP,
  RP_ADDR16,
  RP_ADDR32,
  RP_REP,
  RP_REPNE,
  RSI,
  SEG_ES,
  STATUS_EXIT,
  STATUS_FAULT,
  STATUS_JUMP,
  STATUS_OK,
  WHOLE_STRINGS,
} from '../layout';
import {
  access_status,
  cpl_read8,
  cpl_read16,
  cpl_read32,
  cpl_read64,
  cpl_write8,
  cpl_write16,
  cpl_write32,
  cpl_write64,
  locate_run,
  probe_write,
} from './access';
import { segment_failed, segment_linear, truncate_address } from './address';
import { is_64bit } from './mode';
import { check_port, port_in_again, put_port } from './port';

const MOVS = 0;
const STOS = 1;
const LODS = 2;
const CMPS = 3;

/** Bytes that one call moves at most. */
const MOST_BYTES: u32 = 65536;

/** Mask of the address size. */
let mask: u64 = 0;
let segment: usize = 0;
/** Bytes from one element to the next, as added to rSI and rDI. */
let step: u64 = 0;
let repeated: bool = false;

function begin(record: i32, size: u32): void {
  const prefix = load<u8>(record, R_PREFIX);
  mask = prefix & RP_ADDR16 ? 0xffff : prefix & RP_ADDR32 ? 0xffffffff : ~(<u64>0);
  segment = load<u16>(record, R_SEG);
  step = load<u32>(FLAGS) & FLAG_DF ? -(<u64>size) : <u64>size;
  repeated = (prefix & (RP_REP | RP_REPNE)) != 0;
}

/** Writes a register by the address size. */
function set_register(at: usize, value: u64): void {
  if (mask == 0xffff) store<u16>(at, <u16>value);
  else store<u64>(at, value & mask);
}

function advance(at: usize, count: u64): void {
  set_register(at, load<u64>(at) + step * count);
}

function count_down(count: u64): void {
  set_register(RCX, load<u64>(RCX) - count);
}

function source(size: u32): u64 {
  return segment_linear(segment, load<u64>(RSI) & mask, size, false);
}

function destination(size: u32, write: bool): u64 {
  return segment_linear(SEG_ES, load<u64>(RDI) & mask, size, write);
}

function read(linear: u64, size: u32): u64 {
  if (size == 8) return cpl_read64(linear);
  if (size == 4) return cpl_read32(linear);
  return size == 2 ? cpl_read16(linear) : cpl_read8(linear);
}

function write(linear: u64, size: u32, value: u64): void {
  if (size == 8) cpl_write64(linear, value);
  else if (size == 4) cpl_write32(linear, value);
  else if (size == 2) cpl_write16(linear, value);
  else cpl_write8(linear, value);
}

function sign_extend(value: u64, size: u32): i64 {
  if (size == 8) return <i64>value;
  if (size == 4) return <i64>(<i32>value);
  return size == 2 ? <i64>(<i16>value) : <i64>(<i8>value);
}

/** Flags of a - b. */
function compare(a: u64, b: u64, size: u32): void {
  const x = sign_extend(a, size);
  const y = sign_extend(b, size);
  store<u32>(CC_KIND, CC_KIND_SUB);
  store<i64>(CC_A, x);
  store<i64>(CC_B, y);
  store<i64>(CC_RES, sign_extend(<u64>(x - y), size));
}

function accumulator(size: u32): u64 {
  if (size == 8) return load<u64>(RAX);
  if (size == 4) return load<u32>(RAX);
  return size == 2 ? <u64>load<u16>(RAX) : <u64>load<u8>(RAX);
}

function set_accumulator(size: u32, value: u64): void {
  if (size == 8) store<u64>(RAX, value);
  else if (size == 4) store<u64>(RAX, value & 0xffffffff);
  else if (size == 2) store<u16>(RAX, <u16>value);
  else store<u8>(RAX, <u8>value);
}

/** One iteration, registers but rCX advanced. */
function one(kind: i32, size: u32): i32 {
  let a: u64 = 0;
  let b: u64 = 0;
  if (kind >= CMPS) {
    // CMPS reads its second operand first.
    const other = destination(size, false);
    if (segment_failed) return STATUS_FAULT;
    b = read(other, size);
    if (access_status != STATUS_OK) return access_status;
  }
  if (kind == MOVS || kind == LODS || kind == CMPS) {
    const from = source(size);
    if (segment_failed) return STATUS_FAULT;
    a = read(from, size);
    if (access_status != STATUS_OK) return access_status;
  } else {
    a = accumulator(size);
  }
  if (kind == LODS) {
    set_accumulator(size, a);
    advance(RSI, 1);
    return STATUS_OK;
  }
  if (kind <= STOS) {
    const to = destination(size, true);
    if (segment_failed) return STATUS_FAULT;
    write(to, size, a);
    if (access_status != STATUS_OK) return access_status;
  } else {
    compare(a, b, size);
  }
  if (kind == MOVS || kind == CMPS) advance(RSI, 1);
  advance(RDI, 1);
  return STATUS_OK;
}

// ---- Runs within pages -----------------------------------------------------------------------------------------------------
/** Elements from a linear address to the end of its page. */
function room(linear: u64, size: u32): u32 {
  return (4096 - (<u32>linear & 0xfff)) / size;
}

function fill(host: u32, size: u32, count: u32): void {
  const value = accumulator(size);
  const low = value & 0xff;
  if (value == ((low * 0x0101010101010101) & (size == 8 ? ~(<u64>0) : ((<u64>1) << (size * 8)) - 1))) {
    memory.fill(host, <u8>low, count * size);
    return;
  }
  for (let i: u32 = 0; i < count; i++, host += size) {
    if (size == 8) store<u64>(host, value);
    else if (size == 4) store<u32>(host, <u32>value);
    else store<u16>(host, <u16>value);
  }
}

/** Copies element by element, upwards, whatever the overlap. */
function copy_up(to: u32, from: u32, size: u32, count: u32): void {
  const bytes = count * size;
  if (to <= from || to >= from + bytes) {
    memory.copy(to, from, bytes);
    return;
  }
  for (const end = to + bytes; to < end; to += size, from += size) {
    if (size == 8) store<u64>(to, load<u64>(from));
    else if (size == 4) store<u32>(to, load<u32>(from));
    else if (size == 2) store<u16>(to, load<u16>(from));
    else store<u8>(to, load<u8>(from));
  }
}

/** Elements of MOVS, STOS that were done at once, upwards, each operand within one page of RAM; 0: try one by one. */
function run(kind: i32, size: u32, count: u32): u32 {
  let most = count;
  let from: u64 = 0;
  if (kind == MOVS) {
    from = source(size);
    if (segment_failed) return 0;
    most = min(most, room(from, size));
  }
  const to = destination(size, true);
  if (segment_failed) return 0;
  most = min(most, room(to, size));
  if (most < 2) return 0;
  // The segments' limits hold for the whole run, or the single steps find where they end.
  if (!is_64bit()) {
    const last = <u64>(most - 1) * size;
    if ((load<u64>(RDI) & mask) + last > mask || (load<u64>(RSI) & mask) + last > mask) return 0;
    if (kind == MOVS) segment_linear(segment, (load<u64>(RSI) & mask) + last, size, false);
    if (kind == MOVS && segment_failed) return 0;
    segment_linear(SEG_ES, (load<u64>(RDI) & mask) + last, size, true);
    if (segment_failed) return 0;
  }
  const bytes = most * size;
  let source_host: u32 = 0;
  if (kind == MOVS) {
    source_host = locate_run(from, bytes, false);
    if (source_host <= 1) return 0;
  }
  const host = locate_run(to, bytes, true);
  if (host <= 1) return 0;
  if (kind == MOVS) {
    copy_up(host, source_host, size, most);
    advance(RSI, most);
  } else {
    fill(host, size, most);
  }
  advance(RDI, most);
  return most;
}

/** The iteration that ends here is the instruction's last. */
function is_last(kind: i32, record: i32): bool {
  if (kind < CMPS) return false;
  const equal = load<i64>(CC_RES) == 0;
  return load<u8>(record, R_PREFIX) & RP_REPNE ? equal : !equal;
}

/** Goes on with the same instruction: iterations are left. */
function again(): i32 {
  return STATUS_JUMP;
}

/** MOVS (kind 0), STOS, LODS, CMPS, SCAS (4) of `size` bytes. */
export function string_op(kind: i32, size: i32, record: i32): i32 {
  begin(record, size);
  if (!repeated) return one(kind, size);
  let left = load<u64>(RCX) & mask;
  if (left == 0) return STATUS_OK;
  // Single-step traps come after each iteration.
  const stepping = (load<u32>(MODE) & (load<u32>(WHOLE_STRINGS) ? MODE_DEBUG : MODE_STEP | MODE_DEBUG)) != 0;
  const flags_kind = load<u32>(CC_KIND);
  const flags_a = load<u64>(CC_A);
  const flags_b = load<u64>(CC_B);
  const flags_result = load<u64>(CC_RES);
  let budget: u32 = stepping ? 1 : MOST_BYTES / size;
  while (left > 0) {
    if (budget == 0) return again();
    let done: u32 = 0;
    if (kind <= STOS && !stepping && <i64>step > 0) done = run(kind, size, <u32>min<u64>(left, budget));
    if (done == 0) {
      const status = one(kind, size);
      if (status != STATUS_OK) {
        // A fault puts the flags back (SDM volume 2, REP).
        store<u32>(CC_KIND, flags_kind);
        store<u64>(CC_A, flags_a);
        store<u64>(CC_B, flags_b);
        store<u64>(CC_RES, flags_result);
        return status;
      }
      done = 1;
    }
    count_down(done);
    left -= done;
    budget -= done;
    if (is_last(kind, record)) return STATUS_OK;
    if (load<u32>(MMIO_POSTED) && left > 0) return again();
  }
  return STATUS_OK;
}

/** INS (kind 0), OUTS (1). */
export function string_io(kind: i32, size: i32, record: i32): i32 {
  begin(record, size);
  if (repeated && (load<u64>(RCX) & mask) == 0) return STATUS_OK;
  const port = <u32>load<u16>(RDX);
  let status = check_port(port, size);
  if (status != STATUS_OK) return status;
  if (kind == 0) {
    const to = destination(size, true);
    if (segment_failed) return STATUS_FAULT;
    // A fault comes before the port is read.
    status = probe_write(to, size, true);
    if (status != STATUS_OK) return status;
    status = port_in_again(port, size);
    if (status != STATUS_OK) return status;
    write(to, size, load<u64>(IO_DATA));
    advance(RDI, 1);
  } else {
    const from = source(size);
    if (segment_failed) return STATUS_FAULT;
    const value = read(from, size);
    if (access_status != STATUS_OK) return access_status;
    status = put_port(port, size, value);
    advance(RSI, 1);
  }
  if (repeated) count_down(1);
  const more = repeated && (load<u64>(RCX) & mask) != 0;
  if (status == STATUS_EXIT) {
    if (!more) store<u64>(RIP, load<u64>(NEXT_RIP));
    return STATUS_EXIT;
  }
  return more ? again() : STATUS_OK;
}

/** MASKMOVDQU, MASKMOVQ: the bytes at `data` whose byte at `select` has its top bit set, to DS:rDI. */
export function maskmov(record: i32, data: i32, select: i32, bytes: i32): i32 {
  const base = truncate_address(record, load<u64>(RDI));
  let linear: u64;
  for (let pass = 0; pass < 2; pass++) {
    for (let i = 0; i < bytes; i++) {
      if (!(load<u8>(select + i) & 0x80)) continue;
      linear = segment_linear(load<u16>(record, R_SEG), truncate_address(record, base + i), 1, true);
      if (segment_failed) return STATUS_FAULT;
      if (pass == 0) {
        const status = probe_write(linear, 1, true);
        if (status != STATUS_OK) return status;
      } else {
        cpl_write8(linear, load<u8>(data + i));
      }
    }
  }
  return STATUS_OK;
}
