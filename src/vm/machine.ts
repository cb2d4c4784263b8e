import { type BootState, buildBootImage } from '../arch/x86_64/build.ts';
import { InitrdError } from '../arch/x86_64/initrd.ts';
import { PLATFORM_STATE_SIZE, Platform } from '../devices/platform.ts';
import { PlatformLoop } from '../devices/platform-loop.ts';
import { EPIPE, errnoText } from '../host/errno.ts';
import type { Hypervisor, Vm } from '../hypervisor/hypervisor.ts';
import { selectHypervisor } from '../hypervisor/select.ts';
import type { DeviceModel, Json } from '../virtio/backend.ts';
import type { ConsoleEvent } from '../virtio/console/backend.ts';
import { plugDevices } from '../virtio/plug.ts';
import type { VsockEvent } from '../virtio/vsock/backend.ts';
import { ConfigError, type MachineConfig, type MachineEnd, type UserVsockConfig } from './config.ts';
import type { ConsoleSink } from './console-input.ts';
import { closeModels, deviceModels } from './device-models.ts';
import { createChannel } from './gdb/channel.ts';
import { GdbServer } from './gdb/server.ts';
import { WorkerTarget } from './gdb/worker-target.ts';
import { dropImage, type ImageFile, MAX_IMAGE, readImage, withImage } from './image-file.ts';
import { Insight } from './insight/insight.ts';
import { MachineBalloon } from './machine-balloon.ts';
import { MachineControl } from './machine-control.ts';
import { MachineDisk } from './machine-disk.ts';
import { closeMemory, createMemory, openMemory, plugMemory, type SharedMemory } from './memory.ts';
import { describeMmio, NO_MMIO } from './mmio-description.ts';
import { createTime, openTime, type TimeShare } from './time.ts';
import { VcpuThreads } from './vcpus.ts';
import { VirtioConsole } from './virtio-console.ts';
import { VirtioDevices } from './virtio-devices.ts';
import { VirtioVsock } from './virtio-vsock.ts';

const MIB = 2 ** 20;

function withInitrd<T>({ initrd, memory }: MachineConfig, use: (file: ImageFile | undefined) => T): T {
  return initrd === undefined ? use(undefined) : withImage(initrd, 'initrd', Math.min(memory * MIB, MAX_IMAGE), use);
}

function checkSizes(
  config: MachineConfig,
  limits: { readonly maxMemory: number; readonly maxVcpus: number; readonly name: string },
): void {
  const most = Math.floor(limits.maxMemory / MIB);
  if (config.memory > most) {
    throw new ConfigError(
      `${config.memory} MiB of memory: the ${limits.name} hypervisor has room for ${most} MiB at most: choose less with --mem`,
    );
  }
  if (config.cpus > limits.maxVcpus) {
    const processors = limits.maxVcpus === 1 ? 'one processor' : `${limits.maxVcpus} processors`;
    throw new ConfigError(
      `${config.cpus} processors: the ${limits.name} hypervisor has ${processors} at most: choose fewer with --cpus`,
    );
  }
}

/** What only the built-in processor can tell, and what does not go together. */
function checkInsight(config: MachineConfig, hypervisor: Hypervisor['name'], reason: string): void {
  const wanted = [
    ...(config.profile === undefined ? [] : ['--profile']),
    ...(config.checkTranslation ? ['--check-translation'] : []),
    ...(config.icount ? ['--icount'] : []),
  ].join(' and ');
  if (hypervisor !== 'soft' && wanted !== '') {
    throw new ConfigError(`${wanted} needs the built-in processor: add --hypervisor soft (${reason})`);
  }
  if (!config.icount) return;
  if (config.checkTranslation) throw new ConfigError('--icount and --check-translation do not go together: give one');
  if (config.cpus > 1) throw new ConfigError('--icount takes one processor: leave --cpus out');
  if (config.disks.length + config.sharedDirectories.length + config.consolePorts.length > 0 || config.vsock) {
    throw new ConfigError(
      '--icount takes no disks, shared directories, console ports and sockets: they work at their own speed',
    );
  }
  if (config.console === 'virtio') throw new ConfigError('--icount takes no virtio console: leave --console out');
}

/** Devices of the host's kernel write to guest memory and tell nobody, which the built-in processor has to know. */
function checkKernelDevices({ vsock, networks }: MachineConfig, reason: string): void {
  if (vsock?.kind === 'vhost') throw new ConfigError(`--cid without --vsock needs KVM: add --vsock (${reason})`);
  if (networks.some((network) => network.kind === 'tap' && network.vhost === true)) {
    throw new ConfigError(`--vhost-net needs KVM: leave it out (${reason})`);
  }
}

/** The machine below, with its RAM. When that fails, the RAM is given back. */
function createVm(hypervisor: Hypervisor, config: MachineConfig, memory: SharedMemory, time: TimeShare): Vm {
  let vm: Vm | undefined;
  try {
    vm = hypervisor.createVm({
      vcpuCount: config.cpus,
      splitIrqchip: config.splitIrqchip,
      instructionClock: time.kind === 'instructions' ? time.buffer : undefined,
    });
    plugMemory(vm, memory);
    return vm;
  } catch (error) {
    vm?.close();
    closeMemory(memory);
    throw error;
  }
}

/** The console of the configuration, if it has anything of its own. */
function consoleOf(config: MachineConfig, fd: number): VirtioConsole | undefined {
  const output = config.console === 'virtio' ? fd : undefined;
  if (output === undefined && config.consolePorts.length === 0) return undefined;
  return new VirtioConsole({ output, ports: config.consolePorts });
}

/** Whoever read the console has gone, as for any program that writes to a pipe; or its output has another fault. */
function consoleFailure(errno: number): MachineEnd {
  return errno === EPIPE
    ? { kind: 'signal', signal: 'SIGPIPE' }
    : { kind: 'failure', message: `the console cannot be written: ${errnoText(errno)}` };
}

/** A machine, built and not yet started: everything that its configuration names, put together. */
export class Machine {
  readonly platform: Platform;
  readonly control: MachineControl;
  readonly #vm: Vm;
  readonly #memory: SharedMemory;
  readonly #loop: PlatformLoop;
  readonly #devices: VirtioDevices;
  readonly #console: VirtioConsole | undefined;
  #vsock: VirtioVsock | undefined;
  readonly #vcpus: VcpuThreads;
  readonly #target: WorkerTarget | undefined;
  readonly #insight: Insight | undefined;
  /** Until it is in memory. */
  #kernel: Uint8Array<ArrayBuffer> | undefined;
  #boot: BootState | undefined;
  readonly #reason: string;
  readonly #config: MachineConfig;
  #gdb: GdbServer | undefined;
  readonly #ended = Promise.withResolvers<MachineEnd>();

  /** `notice` takes lines for the user. Throws ConfigError or OsError: each says what is wrong in one line. */
  constructor(config: MachineConfig, console: { readonly fd: number }, notice: (line: string) => void = () => {}) {
    const { hypervisor, reason } = selectHypervisor(config.hypervisor);
    this.#reason = reason;
    this.#config = config;
    checkSizes(config, hypervisor);
    if (config.splitIrqchip && hypervisor.name !== 'kvm') {
      throw new ConfigError(`a split interrupt chip needs KVM: leave --split-irqchip out (${reason})`);
    }
    checkInsight(config, hypervisor.name, reason);
    if (hypervisor.name !== 'kvm') checkKernelDevices(config, reason);
    this.#kernel = readImage(config.kernel, 'kernel', MAX_IMAGE);
    // That it is there is found out now, that there is room for it when the kernel is in memory.
    withInitrd(config, () => {});

    const time = createTime(config.icount);
    const models: DeviceModel[] = [];
    try {
      if (!config.icount) models.push(...deviceModels(config, (vsock) => this.#openVsock(vsock)));
      this.#console = consoleOf(config, console.fd);
      if (this.#console) models.push(this.#console.model);
      this.#insight = Insight.of(config, notice);
      this.#memory = createMemory(config.memory * MIB, hypervisor.keepsDecoded);
      this.#vm = createVm(hypervisor, config, this.#memory, time);
    } catch (error) {
      closeModels(models);
      this.#console?.close();
      this.#vsock?.close();
      throw error;
    }
    const { clock, wallTime } = openTime(time);
    const platformRange = { buffer: new SharedArrayBuffer(PLATFORM_STATE_SIZE), offset: 0 };
    // What comes out of two consoles would come twice.
    const consoleFd = config.console === 'virtio' ? undefined : console.fd;
    const platformConfig = { consoleFd, debugExit: config.debugExit };
    this.platform = new Platform(platformRange, platformConfig, {
      clock,
      wallTime,
      setIrqLine: (gsi, level) => this.#vm.setIrqLine(gsi, level),
    });
    this.#devices = new VirtioDevices(models, config.virtioTransport, this.#memory, config.sandbox, {
      log: notice,
      failed: (message) => this.end({ kind: 'failure', message }),
      interrupt: (device) => transports.updateIntx(device),
      event: (device, message) => this.#onEvent(device, message),
    });
    const transports = plugDevices(this.platform, this.#vm, this.#devices.share);
    transports.reset();
    this.platform.reset();

    const channels = config.gdb === undefined ? [] : Array.from({ length: config.cpus }, createChannel);
    // The threads prepare their vCPUs while this one unpacks the kernel.
    this.#vcpus = new VcpuThreads(
      this.#vm,
      {
        vcpuCount: config.cpus,
        vm: this.#vm.share(),
        memory: this.#memory,
        platform: { range: platformRange, config: platformConfig },
        virtio: this.#devices.share,
        time,
      },
      channels.map(({ agentEnd }) => agentEnd),
      this.#insight?.ends ?? [],
    );
    this.control = new MachineControl({
      description: {
        kernel: config.kernel,
        hypervisor: hypervisor.name,
        cpus: config.cpus,
        memory: config.memory * MIB,
      },
      memory: this.#memory.ranges.map(({ start, size }) => ({ guestAddress: start, size })),
      vcpus: this.#vcpus,
      balloon: config.icount ? undefined : new MachineBalloon(this.#devices, config.memory * MIB),
      disks: config.disks.map(
        (disk, index) =>
          // Disks are the first devices.
          new MachineDisk(index, disk, models[index]!.config, (request) => this.#devices.request(index, request)),
      ),
      debugged: config.gdb !== undefined,
      exit: () => this.end({ kind: 'asked' }),
    });
    this.#target =
      config.gdb === undefined
        ? undefined
        : new WorkerTarget(
            channels.map(({ debuggerEnd }) => debuggerEnd),
            {
              kick: (vcpu) => this.#vm.kick(vcpu),
              kill: () => this.end({ kind: 'asked' }),
            },
          );
    // Where time counts instructions, the vCPU's thread runs the timers.
    this.#loop = new PlatformLoop(this.platform, config.icount ? undefined : clock, {
      onExit: (reason) => this.end(reason),
      // Whoever read the console has gone, as for any program that writes to a pipe.
      onConsoleError: (error) => this.end(consoleFailure(error.errno)),
    });
  }

  /** Puts the kernel into memory. Throws KernelError, ConfigError or CommandLineError, one line for the user; close() is left to do then. */
  load(): void {
    const config = this.#config;
    const kernel = this.#kernel;
    if (kernel === undefined) throw new Error('the kernel is in memory already');
    const mmio = config.virtioTransport === 'mmio' ? describeMmio(this.#devices.share, config.params) : NO_MMIO;
    try {
      this.#boot = withInitrd(config, (initrd) =>
        buildBootImage({
          memory: openMemory(this.#memory),
          kernel,
          ...(initrd !== undefined && { initrd }),
          kernelName: config.kernel,
          entry: 'auto',
          params: [...mmio.params, ...(config.console === 'virtio' ? ['console=hvc0'] : []), ...config.params],
          vcpuCount: config.cpus,
          extraDevices: mmio.aml,
        }),
      );
      this.#kernel = undefined;
      dropImage(kernel);
    } catch (error) {
      throw error instanceof InitrdError ? new ConfigError(`${config.initrd}: ${error.message}`) : error;
    }
  }

  /** What the machine was made of, line by line, for a log. */
  get info(): readonly string[] {
    return [this.#reason, ...(this.#boot?.info ?? [])];
  }

  /** Opens the debugger's port; returns its number. */
  async listenForGdb(port: number): Promise<number> {
    if (!this.#target) throw new ConfigError('the machine was built without a debugger');
    try {
      this.#gdb = await GdbServer.listen(port, this.#target);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === 'EADDRINUSE' ? 'the port is taken: choose another with --gdb' : message;
      throw new ConfigError(`the debugger cannot listen on port ${port}: ${why}`);
    }
    return this.#gdb.port;
  }

  /** Starts the processors. */
  start(): void {
    if (this.#boot === undefined) throw new Error('the machine has no kernel: load() comes first');
    this.#vcpus.start(this.#boot.entry);
    this.#startDevices().catch((error: Error) => this.end({ kind: 'failure', message: error.message }));
    void this.#vcpus.firstEnd().then(({ vcpu, end }) => {
      if (end.kind === 'triple-fault') this.end({ kind: 'triple-fault', vcpu });
      else if (end.kind === 'failure') this.end({ kind: 'failure', message: `processor ${vcpu}: ${end.message}` });
      else this.end(this.platform.exitReason ?? { kind: 'asked' });
    });
  }

  /** Resolves when the run has ended and no thread is left. */
  async ended(): Promise<MachineEnd> {
    const end = await this.#ended.promise;
    // What a guest said last before it ended itself is not lost; who ends it does not wait for a reader that may never read.
    await this.#close(end.kind !== 'signal' && end.kind !== 'asked' && end.kind !== 'failure');
    return end;
  }

  /** A guest unpacks itself first: its devices get ready meanwhile, and do not keep it from its first instruction. */
  async #startDevices(): Promise<void> {
    if (!(await this.#vcpus.running())) return;
    await this.#devices.start();
    await this.#console?.listen((message) =>
      this.#devices.request(this.#devices.numbersOf('console')[0] as number, { ...message }),
    );
  }

  /** The processors tell what they have done so far, where the machine was built for that. */
  askForStatistics(): void {
    this.#insight?.ask();
    this.#vcpus.kickAll();
  }

  /** Where the console's input goes. */
  get consoleInput(): ConsoleSink {
    return this.#config.console === 'virtio' && this.#console ? this.#console : this.platform;
  }

  #openVsock(config: UserVsockConfig): DeviceModel {
    this.#vsock = new VirtioVsock(config);
    return this.#vsock.model;
  }

  /** A device tells something without being asked: that the console cannot be written, or where the guest connects to. */
  #onEvent(device: number, message: Json): void {
    if (this.#devices.numbersOf('vsock').includes(device)) this.#vsock?.onEvent(message as unknown as VsockEvent);
    else this.end(consoleFailure((message as unknown as ConsoleEvent).errno));
  }

  /** Ends the run, for the first reason given. */
  end(reason: MachineEnd): void {
    this.control.ended();
    this.#ended.resolve(reason);
  }

  /** Gives everything back. */
  close(): Promise<void> {
    return this.#close(false);
  }

  async #close(waitsForReader: boolean): Promise<void> {
    this.#target?.end(0);
    this.platform.stopConsole();
    await this.#vcpus.stop();
    await this.#insight?.finish();
    this.#console?.close();
    this.#vsock?.close();
    await this.#devices.close();
    await this.#loop.close(waitsForReader);
    this.#gdb?.close();
    this.#vm.close();
    closeMemory(this.#memory);
  }
}
