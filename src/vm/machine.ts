import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { type BootState, buildBootImage } from '../arch/x86_64/build.ts';
import { InitrdError } from '../arch/x86_64/initrd.ts';
import { PLATFORM_STATE_SIZE, Platform } from '../devices/platform.ts';
import { PlatformLoop } from '../devices/platform-loop.ts';
import { HostClock } from '../host/clock.ts';
import type { Hypervisor, Vm } from '../hypervisor/hypervisor.ts';
import { selectHypervisor } from '../hypervisor/select.ts';
import { plugDevices } from '../virtio/plug.ts';
import { ConfigError, type MachineConfig, type MachineEnd } from './config.ts';
import { closeModels, deviceModels } from './device-models.ts';
import { createChannel } from './gdb/channel.ts';
import { GdbServer } from './gdb/server.ts';
import { WorkerTarget } from './gdb/worker-target.ts';
import { Insight } from './insight/insight.ts';
import { MachineBalloon } from './machine-balloon.ts';
import { MachineControl } from './machine-control.ts';
import { MachineDisk } from './machine-disk.ts';
import { closeMemory, createMemory, openMemory, plugMemory, type SharedMemory } from './memory.ts';
import { describeMmio, NO_MMIO } from './mmio-description.ts';
import { VcpuThreads } from './vcpus.ts';
import { VirtioDevices } from './virtio-devices.ts';

const MIB = 2 ** 20;

/** Node reads files up to this size, bytes. A kernel with debugging information may be larger than the machine's memory. */
const MAX_IMAGE = 2 ** 31 - 1;

/** A file of at most `most` bytes. Throws ConfigError with the file's name and what to do. */
function readImage(path: string, what: string, most: number): Uint8Array {
  if (path === '') throw new ConfigError(`the path of the ${what} is empty: give one`);
  let fd: number | undefined;
  try {
    // Opening a FIFO would wait for its other end.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = fstatSync(fd);
    if (status.isDirectory()) throw new ConfigError(`${path}: it is a folder: give the path of the ${what}`);
    if (!status.isFile()) throw new ConfigError(`${path}: it is no regular file: give the path of the ${what}`);
    if (status.size > most) {
      const mib = Math.ceil(status.size / MIB);
      throw new ConfigError(
        `${path}: the ${what} of ${mib} MiB does not fit into ${Math.floor(most / MIB)} MiB: give another, or more memory with --mem`,
      );
    }
    return readFileSync(fd);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new ConfigError(`${path}: there is no such file: give the path of the ${what}`);
    }
    if (code === 'EACCES') {
      throw new ConfigError(`${path}: it may not be read: change its permissions or give another ${what}`);
    }
    if (code === 'ENXIO') throw new ConfigError(`${path}: it is no regular file: give the path of the ${what}`);
    throw new ConfigError(`${path}: the ${what} cannot be read: ${message}`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
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

/** The machine below, with its RAM. When that fails, the RAM is given back. */
function createVm(hypervisor: Hypervisor, config: MachineConfig, memory: SharedMemory): Vm {
  let vm: Vm | undefined;
  try {
    vm = hypervisor.createVm({ vcpuCount: config.cpus, splitIrqchip: config.splitIrqchip });
    plugMemory(vm, memory, config.hugepages);
    return vm;
  } catch (error) {
    vm?.close();
    closeMemory(memory);
    throw error;
  }
}

/** A machine, built and not yet started: everything that its configuration names, put together. */
export class Machine {
  readonly platform: Platform;
  readonly control: MachineControl;
  readonly #vm: Vm;
  readonly #memory: SharedMemory;
  readonly #loop: PlatformLoop;
  readonly #devices: VirtioDevices;
  readonly #vcpus: VcpuThreads;
  readonly #target: WorkerTarget | undefined;
  readonly #insight: Insight | undefined;
  readonly #boot: BootState;
  readonly #reason: string;
  #gdb: GdbServer | undefined;
  readonly #ended = Promise.withResolvers<MachineEnd>();

  /** `notice` takes lines for the user. Throws ConfigError, KernelError, InitrdError, CommandLineError or OsError: each says what is wrong in one line. */
  constructor(config: MachineConfig, console: { readonly fd: number }, notice: (line: string) => void = () => {}) {
    const { hypervisor, reason } = selectHypervisor(config.hypervisor);
    this.#reason = reason;
    checkSizes(config, hypervisor);
    if (config.splitIrqchip && hypervisor.name !== 'kvm') {
      throw new ConfigError(`a split interrupt chip needs KVM: leave --split-irqchip out (${reason})`);
    }
    if (hypervisor.name !== 'soft' && (config.profile !== undefined || config.checkTranslation)) {
      throw new ConfigError(
        `--profile and --check-translation need the built-in processor: add --hypervisor soft (${reason})`,
      );
    }
    const kernel = readImage(config.kernel, 'kernel', MAX_IMAGE);
    const initrd =
      config.initrd === undefined
        ? undefined
        : readImage(config.initrd, 'initrd', Math.min(config.memory * MIB, MAX_IMAGE));

    const models = deviceModels(config);
    try {
      this.#insight = Insight.of(config, notice);
      this.#memory = createMemory(config.memory * MIB);
      this.#vm = createVm(hypervisor, config, this.#memory);
    } catch (error) {
      closeModels(models);
      throw error;
    }
    const clock = new HostClock();
    const platformRange = { buffer: new SharedArrayBuffer(PLATFORM_STATE_SIZE), offset: 0 };
    const platformConfig = { consoleFd: console.fd, debugExit: config.debugExit };
    this.platform = new Platform(platformRange, platformConfig, {
      clock,
      wallTime: Date.now,
      setIrqLine: (gsi, level) => this.#vm.setIrqLine(gsi, level),
    });
    this.#devices = new VirtioDevices(models, config.virtioTransport, this.#memory, {
      log: notice,
      failed: (message) => this.end({ kind: 'failure', message }),
      interrupt: (device) => transports.updateIntx(device),
      event: () => {},
    });
    const transports = plugDevices(this.platform, this.#vm, this.#devices.share);
    transports.reset();
    this.platform.reset();
    this.#devices.start();

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
        clockOrigin: clock.origin,
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
      balloon: new MachineBalloon(this.#devices, config.memory * MIB),
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
    this.#loop = new PlatformLoop(this.platform, clock, {
      onExit: (reason) => this.end(reason),
      // Whoever read the console has gone, as for any program that writes to a pipe.
      onConsoleError: (error) =>
        this.end(
          error.code === 'EPIPE'
            ? { kind: 'signal', signal: 'SIGPIPE' }
            : { kind: 'failure', message: `the console cannot be written: ${error.message}` },
        ),
    });
    const mmio = config.virtioTransport === 'mmio' ? describeMmio(this.#devices.share, config.params) : NO_MMIO;
    try {
      this.#boot = buildBootImage({
        memory: openMemory(this.#memory),
        kernel,
        kernelName: config.kernel,
        entry: 'auto',
        ...(initrd && { initrd }),
        params: [...mmio.params, ...config.params],
        vcpuCount: config.cpus,
        extraDevices: mmio.aml,
      });
    } catch (error) {
      void this.close();
      throw error instanceof InitrdError ? new ConfigError(`${config.initrd}: ${error.message}`) : error;
    }
  }

  /** What the machine was made of, line by line, for a log. */
  get info(): readonly string[] {
    return [this.#reason, ...this.#boot.info];
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

  /** Starts the processors. Resolves when the run has ended and no thread is left. */
  async run(): Promise<MachineEnd> {
    await this.#devices.ready();
    this.#vcpus.start(this.#boot.entry);
    void this.#vcpus.firstEnd().then(({ vcpu, end }) => {
      if (end.kind === 'triple-fault') this.end({ kind: 'triple-fault', vcpu });
      else if (end.kind === 'failure') this.end({ kind: 'failure', message: `processor ${vcpu}: ${end.message}` });
      else this.end(this.platform.exitReason ?? { kind: 'asked' });
    });
    const end = await this.#ended.promise;
    await this.close();
    return end;
  }

  /** The processors tell what they have done so far, where the machine was built for that. */
  askForStatistics(): void {
    this.#insight?.ask();
    this.#vcpus.kickAll();
  }

  /** Ends the run, for the first reason given. */
  end(reason: MachineEnd): void {
    this.control.ended();
    this.#ended.resolve(reason);
  }

  /** Gives everything back. */
  async close(): Promise<void> {
    this.#target?.end(0);
    this.platform.stopConsole();
    await this.#vcpus.stop();
    await this.#insight?.finish();
    await this.#devices.close();
    await this.#loop.close();
    this.#gdb?.close();
    this.#vm.close();
    closeMemory(this.#memory);
  }
}
