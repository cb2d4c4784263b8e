/**
 * Prepares an x86-64 machine's memory for its first instruction: kernel, initrd, command line, firmware tables, and the
 * structures of the boot protocol.
 */
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { Aml } from './acpi/aml.ts';
import { writeAcpiTables } from './acpi/tables.ts';
import { writeBootParams } from './boot-params.ts';
import { BASE_COMMAND_LINE, CommandLine } from './cmdline.ts';
import { type EntryState, enterLinux64, enterPvh } from './cpu-state.ts';
import { e820Map } from './e820.ts';
import { type InitrdSource, loadInitrd } from './initrd.ts';
import { KernelError } from './kernel/error.ts';
import { type KernelEntry, loadKernel } from './kernel/load.ts';
import { CMDLINE_MAX_SIZE, CMDLINE_START, lowRamEnd, MIB, MIN_MEMORY } from './map.ts';
import { writeMpTables } from './mptable.ts';
import { writePvhStartInfo } from './pvh.ts';

export interface BootImage {
  /** RAM, zeroed, with one region from address 0 on: ramRanges() says where the others go. */
  readonly memory: GuestMemory;
  readonly kernel: Uint8Array;
  /** The kernel file's name, for messages. */
  readonly kernelName: string;
  readonly entry: KernelEntry;
  readonly initrd?: InitrdSource;
  /** Items that come after BASE_COMMAND_LINE, in this order. */
  readonly params: readonly string[];
  readonly vcpuCount: number;
  /** AML of devices that the DSDT names besides the platform's own. */
  readonly extraDevices?: readonly Aml[];
}

export interface BootState {
  /** Registers of vCPU 0. The other vCPUs stay as they are after reset, waiting for INIT and SIPI. */
  readonly entry: EntryState;
  /** What was done, line by line, for a log. */
  readonly info: readonly string[];
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** Throws KernelError, InitrdError or CommandLineError, each with one line for the user. */
export function buildBootImage(image: BootImage): BootState {
  const { memory, vcpuCount } = image;
  if (lowRamEnd(memory) < MIN_MEMORY) {
    throw new KernelError(
      'too-large',
      `${image.kernelName}: no kernel boots with less than ${MIN_MEMORY / MIB} MiB of memory: give the machine more with --mem`,
    );
  }
  const kernel = loadKernel(memory, image.kernel, image.entry, image.kernelName);
  const info = [`kernel: ${kernel.description}, enters at ${hex(kernel.entry)}`];

  const cmdline = new CommandLine(Math.min(kernel.cmdlineSize + 1, CMDLINE_MAX_SIZE));
  for (const text of [BASE_COMMAND_LINE, ...image.params]) {
    cmdline.insertText(text);
  }
  memory.write(CMDLINE_START, cmdline.toBytes());
  info.push(`command line: ${cmdline}`);

  const initrd =
    image.initrd === undefined ? undefined : loadInitrd(memory, image.initrd, kernel.end, kernel.initrdAddrMax);
  if (initrd !== undefined) {
    info.push(`initrd: ${initrd.size} bytes at ${hex(initrd.start)}`);
  }

  writeAcpiTables(memory, { vcpuCount, extraDevices: image.extraDevices ?? [] });
  writeMpTables(memory, vcpuCount);

  const e820 = e820Map(memory);
  if (kernel.protocol === 'pvh') {
    writePvhStartInfo(memory, { e820, cmdlineStart: CMDLINE_START, initrd });
    return { entry: enterPvh(memory, kernel.entry), info };
  }
  writeBootParams(memory, { kernel, e820, cmdlineStart: CMDLINE_START, initrd });
  return { entry: enterLinux64(memory, kernel.entry), info };
}
