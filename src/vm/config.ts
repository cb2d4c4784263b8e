import type { SharedDirectory } from '../fs/shared-directory.ts';
import type { HypervisorChoice } from '../hypervisor/select.ts';
import type { DiskConfig } from '../virtio/block/model.ts';
import type { NetConfig } from '../virtio/net/config.ts';
import type { TransportKind } from '../virtio/plug.ts';

/** Devices in processes of their own. */
export interface SandboxConfig {
  /** Folder of the policies for their system calls; those that come with Vivarium if undefined. */
  readonly policyFolder?: string | undefined;
  /** Folder of bubblewrap's command, for a host where it is not installed. */
  readonly bubblewrapFolder?: string | undefined;
}

export const CONSOLES = ['serial', 'virtio'] as const;
export type ConsoleKind = (typeof CONSOLES)[number];

/** A port of the virtio console that is a Unix socket on the host. */
export interface NamedPort {
  /** The guest has it as /dev/virtio-ports/NAME. */
  readonly name: string;
  /** Where the host has it: a socket, which must not be there yet. */
  readonly path: string;
}

/** Sockets between guest and host (vsock), which are Unix sockets on the host. */
export interface UserVsockConfig {
  readonly kind: 'user';
  /** Context identifier of the guest. */
  readonly cid: number;
  /** Who connects to this Unix socket may ask for a port of the guest; the host's port N is the Unix socket PATH_N. */
  readonly path: string;
}

/** Sockets between guest and host by the host's kernel. */
export interface VhostVsockConfig {
  readonly kind: 'vhost';
  readonly cid: number;
}

export type VsockConfig = UserVsockConfig | VhostVsockConfig;

/** A machine to be run. */
export interface MachineConfig {
  /** Path of the kernel: a bzImage, or an ELF (vmlinux). */
  readonly kernel: string;
  /** Path of the initial RAM disk. */
  readonly initrd?: string | undefined;
  /** Items of the kernel's command line after the platform's own, in this order. */
  readonly params: readonly string[];
  readonly cpus: number;
  /** RAM, MiB. */
  readonly memory: number;
  readonly hypervisor: HypervisorChoice;
  /** KVM: leave only the local APICs to the kernel. */
  readonly splitIrqchip: boolean;
  /** In the order of the guest's names: vda, vdb, ... */
  readonly disks: readonly DiskConfig[];
  /** In the order of the guest's interfaces. */
  readonly networks: readonly NetConfig[];
  readonly vsock?: VsockConfig | undefined;
  /** What standard input and output are to the guest: its first serial port, or hvc0. */
  readonly console: ConsoleKind;
  /** More ports of the virtio console. */
  readonly consolePorts: readonly NamedPort[];
  /** How the guest reaches its virtio devices. */
  readonly virtioTransport: TransportKind;
  /** In the order of the guest's devices. */
  readonly sharedDirectories: readonly SharedDirectory[];
  /** Jails for the devices; undefined: they are threads of the monitor. */
  readonly sandbox: SandboxConfig | undefined;
  /** TCP port of the loopback interface where a GDB may connect before the first instruction; 0: any free one. */
  readonly gdb?: number | undefined;
  /** Print at the end, and on SIGUSR1, what the processors did. */
  readonly stats: boolean;
  /** File that a profile of the guest is written to. */
  readonly profile?: string | undefined;
  /** File with the kernel's symbols, for the profile; undefined: looked for beside the kernel. */
  readonly symbols?: string | undefined;
  /** Compare each run of translated code with the interpreter. */
  readonly checkTranslation: boolean;
  /** Path of the control socket that is to be made; in a folder that is given it gets a name of its own. */
  readonly socket?: string | undefined;
  /** Time counts instructions: two runs of a guest that nobody talks to are the same. */
  readonly icount: boolean;
  /** Does a write to port 0xf4 end the machine? */
  readonly debugExit: boolean;
}

/** A machine that cannot be built. `message` is one line for the user. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

/** Why a machine's run ended. */
export type MachineEnd =
  | { readonly kind: 'power-off' }
  | { readonly kind: 'reset' }
  | { readonly kind: 'debug-exit'; readonly value: number }
  /** A processor shut down. */
  | { readonly kind: 'triple-fault'; readonly vcpu: number }
  /** The user, a debugger or a control socket asked for it. */
  | { readonly kind: 'asked' }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }
  /** The machine cannot go on. `message` is one line for the user. */
  | { readonly kind: 'failure'; readonly message: string };
