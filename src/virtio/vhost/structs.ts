/** The structures of Linux's vhost interface (uapi linux/vhost_types.h), as far as they are used. */
import { struct } from '../../host/struct.ts';

export const vhost_memory = struct('vhost_memory', 8, { nregions: [0, 'u32'] });

export const vhost_memory_region = struct('vhost_memory_region', 32, {
  guest_phys_addr: [0, 'u64'],
  memory_size: [8, 'u64'],
  userspace_addr: [16, 'u64'],
});

export const vhost_vring_state = struct('vhost_vring_state', 8, { index: [0, 'u32'], num: [4, 'u32'] });

export const vhost_vring_addr = struct('vhost_vring_addr', 40, {
  index: [0, 'u32'],
  flags: [4, 'u32'],
  desc_user_addr: [8, 'u64'],
  used_user_addr: [16, 'u64'],
  avail_user_addr: [24, 'u64'],
});

export const vhost_vring_file = struct('vhost_vring_file', 8, { index: [0, 'u32'], fd: [4, 's32'] });
