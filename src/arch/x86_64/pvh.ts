/**
 * What a kernel finds when it is entered by the PVH boot protocol: struct hvm_start_info of version 1, its modules and its
 * memory map (Xen's public/arch-x86/hvm/start_info.h).
 */
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { E820Entry } from './e820.ts';
import type { LoadedInitrd } from './initrd.ts';
import { PVH_MEMMAP, PVH_MODLIST, PVH_START_INFO, RSDP_START, ZERO_PAGE } from './map.ts';

/** XEN_HVM_START_MAGIC_VALUE: "xEn3" with bit 7 of the E set. */
const START_MAGIC = 0x336ec578;
const MEMMAP_ENTRY_SIZE = 24;

export interface PvhStart {
  readonly e820: readonly E820Entry[];
  /** Guest-physical address of the command line. */
  readonly cmdlineStart: number;
  readonly initrd: LoadedInitrd | undefined;
}

/** Writes hvm_start_info at PVH_START_INFO and what it points to. */
export function writePvhStartInfo(memory: GuestMemory, { e820, cmdlineStart, initrd }: PvhStart): void {
  const u32 = (address: number, value: number) => memory.writeU32(address, value);
  const u64 = (address: number, value: number) => memory.writeU64(address, BigInt(value));
  if (PVH_MEMMAP + e820.length * MEMMAP_ENTRY_SIZE > ZERO_PAGE) {
    throw new RangeError(`${e820.length} entries do not fit into the PVH memory map`);
  }
  memory.fill(PVH_START_INFO, ZERO_PAGE - PVH_START_INFO, 0);
  u32(PVH_START_INFO, START_MAGIC);
  u32(PVH_START_INFO + 4, 1); // version
  u32(PVH_START_INFO + 12, initrd === undefined ? 0 : 1); // nr_modules
  u64(PVH_START_INFO + 16, initrd === undefined ? 0 : PVH_MODLIST);
  u64(PVH_START_INFO + 24, cmdlineStart);
  u64(PVH_START_INFO + 32, RSDP_START);
  u64(PVH_START_INFO + 40, PVH_MEMMAP);
  u32(PVH_START_INFO + 48, e820.length);
  if (initrd !== undefined) {
    u64(PVH_MODLIST, initrd.start);
    u64(PVH_MODLIST + 8, initrd.size);
  }
  for (const [i, { start, size, type }] of e820.entries()) {
    const at = PVH_MEMMAP + i * MEMMAP_ENTRY_SIZE;
    u64(at, start);
    u64(at + 8, size);
    u32(at + 16, type); // the same numbers as E820's
  }
}
