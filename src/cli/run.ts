import { Command, InvalidArgumentError, Option } from 'commander';
import type { SharedDirectory } from '../fs/shared-directory.ts';
import { signalStatus } from '../host/signals.ts';
import { HYPERVISOR_CHOICES, type HypervisorChoice } from '../hypervisor/select.ts';
import { findBubblewrap } from '../jail/bubblewrap.ts';
import type { DiskConfig } from '../virtio/block/model.ts';
import { TRANSPORTS, type TransportKind } from '../virtio/plug.ts';
import { CONSOLES, type ConsoleKind, type MachineEnd, type NamedPort } from '../vm/config.ts';
import { runMachine } from '../vm/run.ts';
import { defaultBubblewrap, defaultGuest, defaultRootfs } from './guest.ts';
import { asIs, collectParsed, integer, once, oneOf } from './options.ts';
import { addDiskOptions, systemDisk } from './run-disks.ts';
import { addNetworkOptions, type NetworkOptions, networksOf } from './run-networks.ts';
import { addVsockOptions, type VsockOptions, vsockOf } from './run-vsock.ts';
import { parseMount, parseSharedDirectory, type SharedMount, sharedDirectories } from './shared-dirs.ts';

/** Exit status when a processor of the guest shut down (a triple fault). */
const TRIPLE_FAULT_STATUS = 3;

/** Memory by default for a guest with a whole Debian, MiB. */
const SYSTEM_MEMORY = 512;

interface RunOptions extends NetworkOptions, VsockOptions {
  readonly cpus?: number;
  readonly mem?: number;
  readonly params: readonly string[];
  readonly disks: readonly DiskConfig[];
  readonly initrd?: string;
  readonly rootfs?: boolean;
  readonly hypervisor: HypervisorChoice;
  readonly splitIrqchip?: boolean;
  readonly console: ConsoleKind;
  readonly consolePort?: readonly NamedPort[];
  readonly virtioTransport: TransportKind;
  readonly sharedDir?: readonly SharedDirectory[];
  readonly mount?: readonly SharedMount[];
  readonly multiprocess?: boolean;
  readonly disableSandbox?: boolean;
  readonly seccompPolicyDir?: string;
  readonly gdb?: number;
  readonly stats?: boolean;
  readonly profile?: string;
  readonly symbols?: string;
  readonly checkTranslation?: boolean;
  readonly icount?: boolean;
  readonly socket?: string;
  readonly debugExit?: boolean;
  readonly verbose?: boolean;
}

const HELP = `
KERNEL is a bzImage (vmlinuz) or an ELF (vmlinux). Without it, Debian's kernel and a small system are fetched and run.

A disk's PATH may end in options: ,overlay lets the guest write and throws that away at the end, ,direct goes past the host's cache
(raw disks), ,serial=ID is what the guest sees. /proc/self/fd/N is a descriptor that was inherited.

The console is standard input and output. At a terminal, Ctrl-C goes to the guest, Ctrl-A x leaves, Ctrl-A a sends Ctrl-A.

Exit status: 0 the guest powered off or rebooted, or Ctrl-A x; 1 an error; 3 a triple fault; 128+n ended by signal n;
with --debug-exit, a guest that writes v to port 0xf4 ends it with (v << 1) | 1.`;

/** `vivarium run`. `done` gets the exit status. */
export function runCommand(done: (status: number) => void): Command {
  const disks: DiskConfig[] = [];
  const params: string[] = [];
  const param = (text: string): void => void params.push(text);
  const command = new Command('run')
    .description('Run a guest')
    .argument('[KERNEL]', 'path of the kernel')
    .addOption(
      new Option('-c, --cpus <N>', 'virtual processors (default: 1)').argParser(once(integer(1, 255, 'a number'))),
    )
    .addOption(
      new Option('-m, --mem <MiB>', 'memory (default: 256, with --rootfs 512)').argParser(
        once(integer(1, 2 ** 30, 'a number of MiB')),
      ),
    )
    .addOption(new Option('-p, --params <PARAMS>', 'more parameters for the kernel; may be repeated').argParser(param))
    .addOption(new Option('--initrd <PATH>', 'initial RAM disk').argParser(once(asIs)));
  addDiskOptions(command, disks, param);
  addNetworkOptions(command);
  addVsockOptions(command);
  return command
    .addOption(
      new Option(
        '--rootfs',
        "boot the default guest's root disk, a small Debian; what it writes is dropped at the end",
      ),
    )
    .addOption(
      new Option('--hypervisor <NAME>', 'what runs the guest')
        .choices(HYPERVISOR_CHOICES)
        .default('auto')
        .argParser(once(oneOf(HYPERVISOR_CHOICES))),
    )
    .addOption(new Option('--split-irqchip', 'keep I/O APIC, 8259s and 8254 out of the kernel (KVM)'))
    .addOption(
      new Option('--console <NAME>', 'what standard input and output are to the guest')
        .choices(CONSOLES)
        .default('serial')
        .argParser(once(oneOf(CONSOLES))),
    )
    .addOption(
      new Option(
        '--console-port <NAME=PATH>',
        'a named port of the guest that is a Unix socket here; may be repeated',
      ).argParser(namedPort),
    )
    .addOption(
      new Option('--virtio-transport <NAME>', 'how the guest reaches its virtio devices')
        .choices(TRANSPORTS)
        .default('pci')
        .argParser(once(oneOf(TRANSPORTS))),
    )
    .addOption(
      new Option(
        '--shared-dir <PATH:TAG[,OPTION...]>',
        'a directory for the guest, who mounts it by its tag; may be repeated (options: type=p9|fs, ro, uid=N, gid=N, cache=auto|always|never)',
      ).argParser(collectParsed(parseSharedDirectory)),
    )
    .addOption(
      new Option(
        '--mount <HOST:GUEST[:ro]>',
        'a directory that the default guest mounts at boot; may be repeated',
      ).argParser(collectParsed(parseMount)),
    )
    .addOption(new Option('-u, --multiprocess', 'jail each device in a process of its own (default)'))
    .addOption(new Option('--disable-sandbox', 'run the devices in threads of the monitor').conflicts('multiprocess'))
    .addOption(
      new Option('--seccomp-policy-dir <PATH>', 'folder of the policies for the system calls of devices').argParser(
        once(asIs),
      ),
    )
    .addOption(new Option('--hugepages', 'ask the host for huge pages under the memory of the guest (KVM; default)'))
    .addOption(
      new Option('--gdb <PORT>', 'wait for a GDB on this TCP port of localhost (0: any)').argParser(
        once(integer(0, 65535, 'a port')),
      ),
    )
    .addOption(new Option('--stats', 'tell at the end, and on SIGUSR1, what the processors did'))
    .addOption(
      new Option('--profile <FILE>', 'write a profile of the guest (.cpuprofile, for speedscope)').argParser(
        once(asIs),
      ),
    )
    .addOption(
      new Option('--symbols <FILE>', "the kernel's System.map or vmlinux, for --profile").argParser(once(asIs)),
    )
    .addOption(new Option('--check-translation', 'compare translated code with the interpreter as it runs (slow)'))
    .addOption(
      new Option('-s, --socket <PATH>', 'make a control socket there; in a folder: vivarium-PID.sock').argParser(
        once(asIs),
      ),
    )
    .addOption(
      new Option('--icount', 'let time count instructions: two runs of a guest that nobody talks to are the same'),
    )
    .addOption(new Option('--debug-exit', 'let the guest end the run by a write to port 0xf4'))
    .addOption(new Option('-v, --verbose', 'say what the machine is made of'))
    .addHelpText('after', HELP)
    .action(async (kernel: string | undefined, options: RunOptions) =>
      done(await run(kernel, { ...options, disks, params })),
    );
}

async function run(kernel: string | undefined, options: RunOptions): Promise<number> {
  const shared = sharedDirectories(options.sharedDir ?? [], options.mount ?? []);
  if (options.rootfs && kernel !== undefined) {
    throw new Error('--rootfs is for the default guest: leave KERNEL out, or give its disk by --root or --rwqcow');
  }
  const guest = kernel === undefined ? await defaultGuest() : undefined;
  // The default guest runs on a host where nothing is installed: what jails its devices comes with it.
  const needsBubblewrap = guest && !options.disableSandbox && findBubblewrap() === undefined;
  const bubblewrapFolder = needsBubblewrap ? await defaultBubblewrap() : undefined;
  const system = options.rootfs ? systemDisk(await defaultRootfs(), options.disks.length) : undefined;
  const end = await runMachine(
    {
      kernel: kernel ?? (guest?.kernel as string),
      initrd: options.initrd ?? guest?.initrd,
      params: [...shared.params, ...(system ? [system.param] : []), ...options.params],
      sharedDirectories: shared.directories,
      cpus: options.cpus ?? 1,
      memory: options.mem ?? (system ? SYSTEM_MEMORY : 256),
      hypervisor: options.hypervisor,
      splitIrqchip: options.splitIrqchip ?? false,
      disks: [...options.disks, ...(system ? [system.disk] : [])],
      networks: networksOf(options),
      vsock: vsockOf(options),
      console: options.console,
      consolePorts: options.consolePort ?? [],
      virtioTransport: options.virtioTransport,
      sandbox: options.disableSandbox ? undefined : { policyFolder: options.seccompPolicyDir, bubblewrapFolder },
      gdb: options.gdb,
      stats: options.stats ?? false,
      profile: options.profile,
      symbols: options.symbols,
      checkTranslation: options.checkTranslation ?? false,
      icount: options.icount ?? false,
      socket: options.socket,
      debugExit: options.debugExit ?? false,
    },
    { notice: say, detail: options.verbose ? say : () => {} },
  );
  return statusOf(end);
}

/** `NAME=PATH`. */
function namedPort(text: string, previous: readonly NamedPort[] = []): NamedPort[] {
  const [, name, path] = /^([\w.-]{1,64})=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined) throw new InvalidArgumentError('it takes NAME=PATH');
  if (previous.some((port) => port.name === name)) throw new InvalidArgumentError(`there is a port ${name} already`);
  return [...previous, { name, path }];
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

function statusOf(end: MachineEnd): number {
  switch (end.kind) {
    case 'power-off':
    case 'reset':
    case 'asked':
      return 0;
    case 'debug-exit':
      return ((end.value << 1) | 1) & 0xff;
    case 'triple-fault':
      process.stderr.write(`vivarium: processor ${end.vcpu} of the guest shut down (triple fault)\n`);
      return TRIPLE_FAULT_STATUS;
    case 'signal':
      return signalStatus(end.signal);
    case 'failure':
      throw new Error(end.message);
  }
}
