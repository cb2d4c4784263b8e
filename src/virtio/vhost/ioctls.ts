/** The ioctls of vhost that are used, by the kernel's names (uapi linux/vhost.h). */
import { ioctlRequests } from '../../host/ioctl.ts';
import * as S from './structs.ts';

const { io, ior, iow } = ioctlRequests(0xaf);
const U64 = { size: 8 };
const INT = { size: 4 };

export const VHOST_GET_FEATURES = ior('VHOST_GET_FEATURES', 0x00, U64);
export const VHOST_SET_FEATURES = iow('VHOST_SET_FEATURES', 0x00, U64);
export const VHOST_SET_OWNER = io('VHOST_SET_OWNER', 0x01);
export const VHOST_SET_MEM_TABLE = iow('VHOST_SET_MEM_TABLE', 0x03, S.vhost_memory);
export const VHOST_SET_VRING_NUM = iow('VHOST_SET_VRING_NUM', 0x10, S.vhost_vring_state);
export const VHOST_SET_VRING_ADDR = iow('VHOST_SET_VRING_ADDR', 0x11, S.vhost_vring_addr);
export const VHOST_SET_VRING_BASE = iow('VHOST_SET_VRING_BASE', 0x12, S.vhost_vring_state);
export const VHOST_SET_VRING_KICK = iow('VHOST_SET_VRING_KICK', 0x20, S.vhost_vring_file);
export const VHOST_SET_VRING_CALL = iow('VHOST_SET_VRING_CALL', 0x21, S.vhost_vring_file);
export const VHOST_NET_SET_BACKEND = iow('VHOST_NET_SET_BACKEND', 0x30, S.vhost_vring_file);
export const VHOST_VSOCK_SET_GUEST_CID = iow('VHOST_VSOCK_SET_GUEST_CID', 0x60, U64);
export const VHOST_VSOCK_SET_RUNNING = iow('VHOST_VSOCK_SET_RUNNING', 0x61, INT);
