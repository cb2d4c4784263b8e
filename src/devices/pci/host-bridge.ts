import type { SharedRange } from '../device-state.ts';
import { ConfigSpace } from './config-space.ts';
import type { PciDevice } from './pci-device.ts';

/** Intel's id of a virtual PCIe host bridge: no guest has workarounds for it. */
const VENDOR_ID = 0x8086;
const DEVICE_ID = 0x0d57;
/** Bridge, host. */
const CLASS_CODE = 0x06_00_00;

/** Device 0 of the root bus: what joins it to the processors. It has no registers of its own. */
export class HostBridge implements PciDevice {
  readonly config: ConfigSpace;

  /** `range` has CONFIG_SPACE_STATE_SIZE bytes. */
  constructor(range: SharedRange) {
    this.config = new ConfigSpace(range, { vendorId: VENDOR_ID, deviceId: DEVICE_ID, classCode: CLASS_CODE });
  }
}
