/** Which interrupt line a PCI device's INTx pin is wired to. */
import { PCI_INTX_GSI_COUNT, PCI_INTX_GSI_START } from '../pc-map.ts';

/** GSI of a device's pin (0 INTA to 3 INTD): neighbours use different lines. */
export function intxGsi(device: number, pin: number): number {
  return PCI_INTX_GSI_START + ((device + pin) % PCI_INTX_GSI_COUNT);
}
