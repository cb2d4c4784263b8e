import { type Mapping, map, unmap } from '../../host/memory.ts';
import { allocate, set } from '../../host/struct.ts';
import type { MemorySlot } from '../hypervisor.ts';
import { call } from './call.ts';
import { KVM_MEM_READONLY } from './constants.ts';
import { KVM_SET_USER_MEMORY_REGION } from './ioctls.ts';
import { kvm_userspace_memory_region } from './structs.ts';

/**
 * The memory of a machine: KVM takes it by the addresses at which this process has it mapped. In huge pages where the host gives them to who asks: a
 * guest that touches memory for the first time is twice as fast with them.
 */
export class Slots {
  readonly #vm: number;
  readonly #mappings = new Map<number, Mapping>();

  constructor(vm: number) {
    this.#vm = vm;
  }

  /** Adds, moves or removes a slot. Throws KvmError, OsError (memory), RangeError; a slot that cannot be added is not there. */
  set(slot: MemorySlot): void {
    this.#remove(slot.slot);
    if (slot.size === 0) return;
    const { fd, fdOffset, size, readOnly = false } = slot;
    const mapping = map(fd, fdOffset, size, { readOnly, hugePages: true });
    try {
      this.#tell(slot, mapping);
    } catch (error) {
      unmap(mapping);
      throw error;
    }
    this.#mappings.set(slot.slot, mapping);
  }

  /** Unmaps all, without a word to KVM: the machine has ended. */
  close(): void {
    for (const mapping of this.#mappings.values()) unmap(mapping);
    this.#mappings.clear();
  }

  #remove(slot: number): void {
    const mapping = this.#mappings.get(slot);
    if (!mapping) return;
    this.#tell({ slot, guestAddress: 0, size: 0, fd: -1, fdOffset: 0 }, mapping);
    this.#mappings.delete(slot);
    unmap(mapping);
  }

  #tell({ slot, guestAddress, size, readOnly }: MemorySlot, { address }: Mapping): void {
    const view = allocate(kvm_userspace_memory_region);
    const put = (name: 'guest_phys_addr' | 'memory_size' | 'userspace_addr', value: number): void =>
      set(kvm_userspace_memory_region, view, name, BigInt(value));
    set(kvm_userspace_memory_region, view, 'slot', slot);
    set(kvm_userspace_memory_region, view, 'flags', readOnly === true ? KVM_MEM_READONLY : 0);
    put('guest_phys_addr', guestAddress);
    put('memory_size', size);
    put('userspace_addr', address);
    const what = `${size} bytes of memory at 0x${guestAddress.toString(16)} cannot be given to the guest`;
    call(size === 0 ? `memory slot ${slot} cannot be removed` : what, this.#vm, KVM_SET_USER_MEMORY_REGION, view);
  }
}
