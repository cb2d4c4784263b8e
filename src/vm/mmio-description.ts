/** How a kernel learns of devices that no bus tells of. */
import type { Aml } from '../arch/x86_64/acpi/aml.ts';
import { virtioMmioDevice } from '../arch/x86_64/acpi/dsdt.ts';
import { mmioPlace, type VirtioShare } from '../virtio/plug.ts';

export interface MmioDescription {
  /** Items of the kernel's command line. */
  readonly params: readonly string[];
  /** ACPI devices. */
  readonly aml: readonly Aml[];
}

export const NO_MMIO: MmioDescription = { params: [], aml: [] };

/** By ACPI; on the command line where `params` turn ACPI off. By both, the kernel would complain of each device. */
export function describeMmio({ devices }: VirtioShare, params: readonly string[]): MmioDescription {
  const places = devices.map((_, index) => mmioPlace(index));
  const acpi = !params.some((text) => text.split(' ').some((item) => item === 'acpi=off' || item === 'noacpi'));
  if (acpi) {
    return {
      params: [],
      aml: places.map(({ address, size, gsi }, index) => virtioMmioDevice(index, address, size, gsi)),
    };
  }
  return {
    params: places.map(
      ({ address, size, gsi }) => `virtio_mmio.device=${size / 1024}K@0x${address.toString(16)}:${gsi}`,
    ),
    aml: [],
  };
}
