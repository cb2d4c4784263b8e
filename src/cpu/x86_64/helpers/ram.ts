// Guest-physical memory through the slots (layout.ts, SLOTS).

import {
  SLOT_COUNT,
  SLOT_O_FLAGS,
  SLOT_O_HOST,
  SLOT_O_SIZE,
  SLOT_O_START,
  SLOT_O_WRITES,
  SLOT_SIZE,
  SLOTS,
} from '../layout';

/** Slot found last: most look-ups stay in one. */
let last: usize = SLOTS;
/** Flags of the slot that ram_host() found. */
export let ram_flags: u32 = 0;

/** Host offset of a guest-physical byte; 0 where no slot is. */
export function ram_host(physical: u64): u32 {
  if (physical - load<u64>(last, SLOT_O_START) < load<u64>(last, SLOT_O_SIZE) && load<u32>(SLOT_COUNT) != 0) {
    ram_flags = load<u32>(last, SLOT_O_FLAGS);
    return load<u32>(last, SLOT_O_HOST) + <u32>(physical - load<u64>(last, SLOT_O_START));
  }
  const end: usize = SLOTS + load<u32>(SLOT_COUNT) * SLOT_SIZE;
  for (let slot: usize = SLOTS; slot < end; slot += SLOT_SIZE) {
    const offset = physical - load<u64>(slot, SLOT_O_START);
    if (offset < load<u64>(slot, SLOT_O_SIZE)) {
      last = slot;
      ram_flags = load<u32>(slot, SLOT_O_FLAGS);
      return load<u32>(slot, SLOT_O_HOST) + <u32>offset;
    }
  }
  last = SLOTS;
  return 0;
}

/** An aligned 8-byte read for table walks; all ones where there is no memory. */
export function ram_read64(physical: u64): u64 {
  const host = ram_host(physical);
  return host ? load<u64>(host) : ~(<u64>0);
}

export function ram_read32(physical: u64): u32 {
  const host = ram_host(physical);
  return host ? load<u32>(host) : ~(<u32>0);
}

/** How often devices have written to the page of a host offset, modulo 65536. */
export function device_writes(host: u32): u32 {
  const end: usize = SLOTS + load<u32>(SLOT_COUNT) * SLOT_SIZE;
  for (let slot: usize = SLOTS; slot < end; slot += SLOT_SIZE) {
    const offset = host - load<u32>(slot, SLOT_O_HOST);
    if (<u64>offset >= load<u64>(slot, SLOT_O_SIZE)) continue;
    const counts = load<u32>(slot, SLOT_O_WRITES);
    return counts ? load<u16>(counts + (offset >>> 12) * 2) : 0;
  }
  return 0;
}
