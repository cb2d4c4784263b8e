/** Device processes, as the monitor sees them: starting one in its jail, and learning how it ended. */
import { openSync, readFileSync, readSync } from 'node:fs';
import { closeAllOnExec, closeDescriptor } from '../host/descriptor.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { EPIPE, type OsError } from '../host/errno.ts';
import { Lifeline } from '../host/lifeline.ts';
import { unbreakablePipe } from '../host/pipe.ts';
import type { Poller } from '../host/poller.ts';
import { receiveStoppedCall } from '../host/seccomp.ts';
import { type ProgramEnd, reapProgram, signalNamed, spawnProgram } from '../host/spawn.ts';
import { messageSocketPair, sendMessage } from '../host/unix-socket.ts';
import { SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_USER_NOTIF } from './bpf.ts';
import { type Bind, bubblewrapArguments, findBubblewrap } from './bubblewrap.ts';
import { receiveJson, sendJson } from './channel.ts';
import { compilePolicy } from './compile.ts';
import { type IdMaps, writeIdMaps } from './id-maps.ts';
import { POLICY_FOLDER, readPolicy } from './policy-files.ts';
import {
  type Capability,
  FILE_CAPABILITIES,
  FIRST_DEVICE_FD,
  type GoMessage,
  type ReadyMessage,
  type StartMessage,
} from './protocol.ts';
import { hostSyscallArch, type SyscallArch, syscallName } from './syscalls.ts';

/** Bytes of what a device process writes to its standard error that are kept. */
const MAX_STDERR = 16 * 1024;
/** Milliseconds: far more than a loaded machine needs; one that QEMU emulates took 20 s. */
const LOCK_TIMEOUT = 60_000;
/** Bytes of bwrap's status that are read: what it says first, in pieces, has a tenth of that. */
const MAX_STATUS = 4096;
/** bwrap gives a signal n of its child on as this status plus n. */
const SIGNAL_STATUS = 128;

export interface DeviceProcessOptions {
  /** Name of its policy: `block_device`. */
  readonly policy: string;
  /** Folder of the policies; Vivarium's own where there is none. */
  readonly policyFolder?: string | undefined;
  /** Folder of bubblewrap's command, for a host where it is not installed. */
  readonly bubblewrapFolder?: string | undefined;
  /** Path of its code: one file that calls runInJail(). */
  readonly bundle: string;
  /** For that code; JSON. */
  readonly data: unknown;
  /** Descriptors that it gets, in this order; they stay open here. */
  readonly fds: readonly number[];
  /** Does it have the host's network, or none? */
  readonly network: 'host' | 'none';
  /** Folders of the host that it sees. */
  readonly binds?: readonly Bind[];
  /** Does it see /proc, of its own namespace? */
  readonly proc?: boolean;
  /** The users and groups that it acts for, with rights over their files; if not given, this process's user and group alone. */
  readonly users?: IdMaps | undefined;
}

/** How a device process ended. */
export interface DeviceProcessEnd {
  /** Exit status, 0 for one that went as it should. */
  readonly status?: number | undefined;
  readonly signal?: NodeJS.Signals | undefined;
  /** In words, one line: `it called openat, which its policy block_device does not allow`. */
  readonly cause: string;
}

/** A jail that cannot be made. `message` is one line for the user. */
export class JailError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JailError';
  }
}

const HOW_TO_GO_ON = 'or run without jails, with --disable-sandbox';

/**
 * Starts a device process and resolves when it has locked itself in. Rejects with JailError or PolicyError, one line for the user,
 * when a layer of the jail cannot be had: none is left out. The device's process ends with this one.
 */
export async function startDeviceProcess(options: DeviceProcessOptions, poller: Poller): Promise<DeviceProcess> {
  const arch = hostSyscallArch();
  if (arch === undefined) throw new JailError(`there are no jails on ${process.arch} yet: run with --disable-sandbox`);
  const bwrap = findBubblewrap(options.bubblewrapFolder);
  if (bwrap === undefined) {
    throw new JailError(`devices cannot be jailed without bubblewrap: install the package bubblewrap, ${HOW_TO_GO_ON}`);
  }
  const start = startMessage(options, arch);
  const device = new DeviceProcess(bwrap, options, arch, poller);
  await device.lock(start, options.users);
  return device;
}

/** What it keeps after it has locked itself in. */
function capabilitiesOf({ users }: DeviceProcessOptions): readonly Capability[] {
  return users === undefined ? [] : FILE_CAPABILITIES;
}

function startMessage(options: DeviceProcessOptions, arch: SyscallArch): StartMessage {
  const { policy, policyFolder, data, fds } = options;
  const rules = readPolicy(policy, policyFolder ?? POLICY_FOLDER);
  const compile = (forbidden: number): string => Buffer.from(compilePolicy(rules, arch, forbidden)).toString('base64');
  const filter = { telling: compile(SECCOMP_RET_USER_NOTIF), killing: compile(SECCOMP_RET_KILL_PROCESS) };
  return { data, fdCount: fds.length, capabilities: capabilitiesOf(options), filter };
}

export class DeviceProcess {
  /** How it ended, once it has; never rejects. */
  readonly ended: Promise<DeviceProcessEnd>;
  readonly #policy: string;
  readonly #arch: SyscallArch;
  readonly #poller: Poller;
  /** Number of bwrap's process. */
  readonly #bwrap: number;
  /** The number is that of bwrap's process still. */
  #hasBwrap = true;
  readonly #channel: number;
  /** Where bwrap tells the process's number. */
  readonly #status: number;
  /** Where it and bwrap tell what is wrong; its end is the end of both. */
  readonly #stderr: number;
  readonly #silent = Promise.withResolvers<void>();
  readonly #lifeline = new Lifeline();
  /** Tokens of the poller, by descriptor. */
  readonly #watches = new Map<number, number>();
  /** Its number is known. */
  readonly #begun = Promise.withResolvers<void>();
  readonly #locked = Promise.withResolvers<void>();
  #pid: number | undefined;
  /** It is to be killed as soon as its number is known. */
  #isDoomed = false;
  #isLocked = false;
  #listener: number | undefined;
  #words: Buffer = Buffer.alloc(0);
  #failure: string | undefined;

  constructor(bwrap: string, options: DeviceProcessOptions, arch: SyscallArch, poller: Poller) {
    // Its end is told to those who do not wait for it, too.
    this.#locked.promise.catch(() => {});
    this.#policy = options.policy;
    this.#arch = arch;
    this.#poller = poller;
    const { fds } = options;
    const statusFd = FIRST_DEVICE_FD + fds.length;
    const args = bubblewrapArguments({
      bundle: options.bundle,
      statusFd,
      binds: options.binds ?? [],
      proc: options.proc ?? false,
      hostNetwork: options.network === 'host',
      awaitsUsers: options.users !== undefined,
      capabilities: capabilitiesOf(options),
    });
    const [mine, its] = messageSocketPair();
    // A bwrap that could not write to it, as the monitor has gone, would end, and the process that it has begun wait for it for ever.
    const [status, itsStatus] = unbreakablePipe();
    const [stderr, itsStderr] = unbreakablePipe();
    const nothing = openSync('/dev/null', 'r+');
    this.#channel = mine;
    this.#status = status;
    this.#stderr = stderr;
    closeAllOnExec();
    try {
      // A session of its own: keys of the terminal are for the monitor, which ends its devices in order.
      this.#bwrap = spawnProgram(bwrap, args, {
        fds: [
          // bwrap keeps it; the process has it, too, and cannot change it.
          this.#lifeline.its,
          nothing,
          itsStderr,
          its,
          ...fds,
          itsStatus,
          ...(options.users === undefined ? [] : [itsStatus]),
        ],
        // With several arenas, malloc() in a new thread would count the processors, in a file.
        env: { MALLOC_ARENA_MAX: '1' },
        folder: '/',
      });
    } catch (error) {
      for (const fd of [mine, status, stderr]) closeDescriptor(fd);
      this.#lifeline.close();
      throw new JailError(`its process cannot start: ${bwrap}: ${(error as Error).message}`);
    } finally {
      for (const fd of [its, itsStatus, itsStderr, nothing]) closeDescriptor(fd);
    }
    poller.hold();
    this.#watch(stderr, () => this.#readStderr());
    this.#watch(status, () => this.#readStatus());
    this.#watch(mine, () => this.#receive());
    this.ended = this.#awaitEnd();
  }

  /** Number of the process in this process's namespace. */
  get pid(): number {
    if (this.#pid === undefined) throw new Error('the process has not begun');
    return this.#pid;
  }

  /** Gives it what it starts from. Resolves when it has locked itself in, and rejects with JailError when it cannot. */
  async lock(start: StartMessage, users?: IdMaps): Promise<void> {
    try {
      if (users !== undefined) await this.#giveUsers(users);
      sendJson(this.#channel, start);
    } catch (error) {
      // It has ended already, and why is told then.
      if ((error as OsError).errno !== EPIPE) throw error;
    }
    // A call that the policy forbids, before the monitor has the listener, waits for ever.
    const hang = setTimeout(() => this.#fail(this.#whereItHangs()), LOCK_TIMEOUT);
    try {
      await this.#locked.promise;
    } finally {
      clearTimeout(hang);
    }
  }

  /** Ends it at once. */
  kill(): void {
    this.#isDoomed = true;
    // Without bwrap it would wait for ever, when it has only just begun.
    if (this.#pid === undefined) return;
    try {
      process.kill(this.#pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
    // It may still wait for the namespace's users.
    if (this.#hasBwrap) process.kill(this.#bwrap, 'SIGKILL');
  }

  #watch(fd: number, callback: (events: number) => void): void {
    this.#watches.set(fd, this.#poller.watch(fd, EPOLLIN, callback));
  }

  #unwatch(fd: number): void {
    const token = this.#watches.get(fd);
    if (token !== undefined) this.#poller.unwatch(token);
    this.#watches.delete(fd);
  }

  #fail(cause: string): void {
    this.#failure ??= cause;
    this.kill();
  }

  /** Takes a message; false: there is none. */
  #receive(): boolean {
    const message = receiveJson(this.#channel, { wait: false });
    if (message === null) this.#unwatch(this.#channel);
    if (!message) return false;
    if (!this.#isLocked) this.#begin(message.value as ReadyMessage, message.fds);
    return true;
  }

  #begin(ready: ReadyMessage, fds: readonly number[]): void {
    if (!ready.locked) {
      this.#failure ??= ready.error;
      return;
    }
    this.#isLocked = true;
    if (!this.#hasBwrap) return;
    this.#lifeline.tie(this.#bwrap);
    sendJson(this.#channel, { go: true } satisfies GoMessage);
    const [listener] = fds;
    if (listener !== undefined) {
      this.#listener = listener;
      this.#watch(listener, (events) => this.#stop(listener, events));
    }
    this.#locked.resolve();
  }

  /** A thread of it waits in a system call that its policy forbids, which is never made. */
  #stop(listener: number, events: number): void {
    // Where there is none, because the process has ended, Linux before 6.11 would wait for one for ever.
    const call = (events & EPOLLIN) === 0 ? undefined : receiveStoppedCall(listener);
    if (call === undefined) return this.#unwatch(listener);
    const args = call.args.map((value) => `0x${value.toString(16)}`).join(', ');
    this.#fail(
      `it called ${syscallName(this.#arch, call.number)}(${args}), which its policy ${this.#policy} does not allow`,
    );
  }

  /** bwrap waits for a message before it goes on in the namespace. */
  async #giveUsers(users: IdMaps): Promise<void> {
    await Promise.race([this.#begun.promise, this.#locked.promise]);
    try {
      writeIdMaps(this.pid, users);
    } catch (error) {
      this.#fail(
        `its namespace cannot have all users: ${(error as Error).message}: give the directory uid= and gid=, ${HOW_TO_GO_ON}`,
      );
      await this.#locked.promise;
    }
    sendMessage(this.#channel, new Uint8Array(1));
  }

  #whereItHangs(): string {
    const hang = `it has not locked itself in after ${LOCK_TIMEOUT / 1000} s`;
    try {
      const number = /^\d+/.exec(readFileSync(`/proc/${this.#pid}/syscall`, 'latin1'))?.[0];
      if (number !== undefined) return `${hang}: it waits in ${syscallName(this.#arch, Number(number))}`;
    } catch {
      // The kernel may not tell.
    }
    return hang;
  }

  /** What bwrap says before the process goes on: its number. */
  #readStatus(): void {
    const text = Buffer.alloc(MAX_STATUS);
    const pid = /"child-pid":\s*(\d+)/.exec(text.toString('latin1', 0, readSync(this.#status, text)))?.[1];
    if (pid === undefined) return;
    this.#pid = Number(pid);
    this.#begun.resolve();
    this.#unwatch(this.#status);
    if (this.#isDoomed) this.kill();
  }

  #readStderr(): void {
    const bytes = Buffer.alloc(MAX_STDERR);
    const length = readSync(this.#stderr, bytes);
    if (length > 0) {
      this.#words = Buffer.concat([this.#words, bytes.subarray(0, length)]).subarray(-MAX_STDERR);
      return;
    }
    this.#unwatch(this.#stderr);
    this.#silent.resolve();
  }

  async #awaitEnd(): Promise<DeviceProcessEnd> {
    await this.#silent.promise;
    this.#hasBwrap = false;
    const bwrap = reapProgram(this.#bwrap);
    // What it said last may not have been read yet.
    while (this.#receive());
    for (const fd of [this.#channel, this.#status, this.#stderr, this.#listener]) {
      if (fd === undefined) continue;
      this.#unwatch(fd);
      closeDescriptor(fd);
    }
    this.#poller.release();
    this.#lifeline.close();
    const end = this.#describe(bwrap);
    this.#locked.reject(new JailError(this.#startFailure(end)));
    return end;
  }

  #describe({ status = 0, ...bwrap }: ProgramEnd): DeviceProcessEnd {
    const signal = bwrap.signal ?? signalNamed(status - SIGNAL_STATUS);
    if (signal !== undefined) return { signal, cause: this.#failure ?? this.#lastWords() ?? wordsFor(signal) };
    return { status, cause: this.#failure ?? this.#lastWords() ?? `status ${status}` };
  }

  /** The first line of what it wrote to standard error, which is an error's message. */
  #lastWords(): string | undefined {
    const text = this.#words.toString('utf8');
    return text.split('\n').find((line) => line.trim() !== '');
  }

  #startFailure({ cause }: DeviceProcessEnd): string {
    // bwrap speaks for itself; everything else is the device's.
    if (!cause.startsWith('bwrap:')) return `its process cannot start: ${cause}`;
    const why = cause.slice('bwrap: '.length).replace(/\. See <.*|\.$/, '');
    return (
      `it cannot be jailed: ${why}: allow user namespaces here ` +
      `(bubblewrap needs them, and a chroot has none), ${HOW_TO_GO_ON}`
    );
  }
}

function wordsFor(signal: NodeJS.Signals): string {
  if (signal !== 'SIGKILL') return `its process crashed (${signal})`;
  return 'its process was killed (SIGKILL): by a user, or by the kernel for want of memory: see dmesg';
}
