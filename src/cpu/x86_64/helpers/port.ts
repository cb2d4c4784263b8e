// Ports (SDM volume 1, chapter 19): permission, and the way in and out.

import {
  CR4,
  DEBUG_HIT,
  DR,
  DR7,
  EXIT_IO_IN,
  EXIT_IO_OUT,
  EXIT_REASON,
  IO_ADDRESS,
  IO_DATA,
  IO_RESUME,
  IO_SIZE,
  NEXT_RIP,
  RIP,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_TR,
  STATUS_EXIT,
  STATUS_OK,
} from '../layout';
import { access_status, sup_read16 } from './access';
import { host_pio } from './host';
import { cpl, iopl, is_real_or_v86, is_v86 } from './mode';
import { raise_error } from './raise';
import { CR4_DE, GP, TYPE_TSS32 } from './registers';

/** Offset of the I/O map base in a 32- or 64-bit TSS. */
const TSS_IO_MAP_BASE: u32 = 0x66;

/** DR7.R/W of a breakpoint on ports. */
const DR7_PORT = 2;

/** Resumptions of an IN or INS that left (IO_RESUME). */
const RESUME_NONE = 0;
const RESUME_IN = 1;
const RESUME_INS = 3;

/** STATUS_OK, or the fault raised, for `size` ports from `port` on. */
export function check_port(port: u32, size: u32): i32 {
  if (is_v86() ? false : is_real_or_v86() || cpl() <= iopl()) return STATUS_OK;
  const limit = load<u32>(SEG_TR, SEG_O_LIMIT);
  const base = load<u64>(SEG_TR, SEG_O_BASE);
  // Busy or available: bit 1.
  if ((load<u32>(SEG_TR, SEG_O_ATTR) & 13) != TYPE_TSS32 || limit < TSS_IO_MAP_BASE + 1) return raise_error(GP, 0);
  const map = <u32>sup_read16(base + TSS_IO_MAP_BASE);
  if (access_status != STATUS_OK) return access_status;
  const at = map + (port >> 3);
  // Two bytes are read, whatever the port: the second must be there too.
  if (at + 1 > limit) return raise_error(GP, 0);
  const bits = <u32>sup_read16(base + at);
  if (access_status != STATUS_OK) return access_status;
  return (bits >> (port & 7)) & ((1 << size) - 1) ? raise_error(GP, 0) : STATUS_OK;
}

function address_port(port: u32, size: u32): void {
  store<u64>(IO_ADDRESS, port);
  store<u32>(IO_SIZE, size);
  if (load<u32>(CR4) & CR4_DE) watch_port(port, size);
}

/** Notes breakpoints on ports that an access hits. */
function watch_port(port: u32, size: u32): void {
  const dr7 = load<u32>(DR7);
  for (let i: u32 = 0; i < 4; i++) {
    if (!((dr7 >> (2 * i)) & 3) || ((dr7 >> (16 + 4 * i)) & 3) != DR7_PORT) continue;
    const code = (dr7 >> (18 + 4 * i)) & 3;
    const length: u32 = code == 2 ? 8 : code + 1;
    const start = load<u64>(DR + i * 8) & ~(<u64>(length - 1));
    if (port < start + length && start < port + size) store<u32>(DEBUG_HIT, load<u32>(DEBUG_HIT) | (1 << i));
  }
}

/** IN: the value to IO_DATA, or the exit that asks for it, which also ends the instruction. */
export function port_in(port: i32, size: i32): i32 {
  const status = check_port(port, size);
  if (status != STATUS_OK) return status;
  address_port(port, size);
  if (host_pio(0)) return STATUS_OK;
  store<u32>(EXIT_REASON, EXIT_IO_IN);
  store<u32>(IO_RESUME, RESUME_IN);
  store<u64>(RIP, load<u64>(NEXT_RIP));
  return STATUS_EXIT;
}

/** Reads for INS, permission checked: STATUS_OK with the value in IO_DATA; STATUS_EXIT: the instruction starts again when it is there. */
export function port_in_again(port: u32, size: u32): i32 {
  if (load<u32>(IO_RESUME) == RESUME_INS) {
    store<u32>(IO_RESUME, RESUME_NONE);
    return STATUS_OK;
  }
  address_port(port, size);
  if (host_pio(0)) return STATUS_OK;
  store<u32>(EXIT_REASON, EXIT_IO_IN);
  store<u32>(IO_RESUME, RESUME_INS);
  return STATUS_EXIT;
}

/** Writes a value, permission checked. STATUS_EXIT: the caller sets RIP to where to go on. */
export function put_port(port: u32, size: u32, value: u64): i32 {
  address_port(port, size);
  store<u64>(IO_DATA, value);
  if (host_pio(1)) return STATUS_OK;
  store<u32>(EXIT_REASON, EXIT_IO_OUT);
  return STATUS_EXIT;
}

/** OUT. */
export function port_out(port: i32, size: i32, value: i32): i32 {
  const status = check_port(port, size);
  if (status != STATUS_OK) return status;
  if (put_port(port, size, <u64>(<u32>value)) == STATUS_OK) return STATUS_OK;
  store<u64>(RIP, load<u64>(NEXT_RIP));
  return STATUS_EXIT;
}
