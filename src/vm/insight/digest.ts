import { createHash } from 'node:crypto';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { Vcpu } from '../../hypervisor/hypervisor.ts';

/** SHA-256 of a vCPU's registers and of all memory, in hexadecimal. */
export function machineDigest(vcpu: Vcpu, memory: GuestMemory): string {
  const hash = createHash('sha256');
  const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);
  const registers = [
    vcpu.getRegs(),
    vcpu.getSregs(),
    vcpu.getDebugRegs(),
    vcpu.getMpState(),
    vcpu.getXcr0().toString(),
  ];
  hash.update(JSON.stringify(registers, plain)).update(vcpu.getXsave()).update(vcpu.getLapic());
  for (const { bytes } of memory.regions) hash.update(bytes);
  return hash.digest('hex');
}
