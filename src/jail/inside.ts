/**
 * The inside of a device process: what it is started with, and how it locks itself in. Runs in a process of its own, from a
 * bundle (see device-process.ts), and must import little: its start-up time and memory are each device's.
 */
import { writeSync } from 'node:fs';
import { dropCapabilities } from '../host/capabilities.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { libc } from '../host/ffi.ts';
import { changeRoot } from '../host/mounts.ts';
import { installFilter, installFilterWithListener, setNoNewPrivileges } from '../host/seccomp.ts';
import { threadIds } from '../host/threads.ts';
import { receiveJson, sendJson } from './channel.ts';
import {
  CAPABILITIES,
  type Capability,
  CHANNEL_FD,
  FIRST_DEVICE_FD,
  JAIL_ROOT,
  LOCK_CAPABILITIES,
  type ReadyMessage,
  type StartMessage,
} from './protocol.ts';

const STDERR = 2;

const exit = libc('void _exit(int status)');
/** absl::base_internal, in Node itself. */
const FOR_LOCKS = [
  libc('int _ZN4absl13base_internal7NumCPUsEv()'),
  libc('double _ZN4absl13base_internal19NominalCPUFrequencyEv()'),
];

/** A device's code as it begins. */
export interface DeviceStart {
  /** What the monitor gave for it. */
  readonly data: unknown;
  /** The device's descriptors, in the monitor's order. */
  readonly fds: readonly number[];
}

/**
 * Runs a device: `prepare` loads what the device needs and maps its memory, and returns what serves the guest. Between the
 * two, the process locks itself in: nothing can be opened any more. Ends the process when that returns or throws.
 */
export async function runInJail(prepare: (start: DeviceStart) => Promise<() => void>): Promise<void> {
  let serve: () => void;
  try {
    const message = receiveJson(CHANNEL_FD, { wait: true });
    // The monitor has gone.
    if (!message) return void exit(0);
    const { data, fdCount, capabilities, filter } = message.value as StartMessage;
    const fds = Array.from({ length: fdCount }, (_, i) => FIRST_DEVICE_FD + i);
    serve = await prepare({ data, fds });
    lockDown(capabilities, filter);
    // The monitor has gone.
    if (!receiveJson(CHANNEL_FD, { wait: true })) return void exit(0);
    closeDescriptor(CHANNEL_FD);
  } catch (error) {
    tellFailure(error);
    return void exit(1);
  }
  try {
    serve();
  } catch (error) {
    // Not left to Node, which would look for files to show the place.
    writeSync(STDERR, `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    exit(1);
  }
  exit(0);
}

function lockDown(capabilities: StartMessage['capabilities'], filter: StartMessage['filter']): void {
  readFilesOfLater();
  const tids = threadIds();
  changeRoot(JAIL_ROOT);
  const numbersOf = (names: readonly Capability[]): number[] => names.map((name) => CAPABILITIES[name]);
  dropCapabilities(
    { keep: numbersOf(capabilities), bounding: numbersOf([...capabilities, ...LOCK_CAPABILITIES]) },
    tids,
  );
  setNoNewPrivileges();
  const listener = installFilterWithListener(Buffer.from(filter.telling, 'base64'));
  if (listener === undefined) installFilter(Buffer.from(filter.killing, 'base64'));
  try {
    tell({ locked: true }, listener === undefined ? [] : [listener]);
  } finally {
    // With this one open, a call that the policy forbids would wait for an answer that nobody gives when the monitor has gone.
    if (listener !== undefined) closeDescriptor(listener);
  }
}

/** What the engine would read from files at some later time, once: it is made to do so now. */
function readFilesOfLater(): void {
  // The time zone.
  new Date().getTimezoneOffset();
  readForLock();
}

/** When two threads first want one of V8's locks, it looks up the number of processors and the rate of their clock. */
function readForLock(): void {
  for (const read of FOR_LOCKS) {
    try {
      read();
    } catch {
      // An engine without that function.
    }
  }
}

function tellFailure(error: unknown): void {
  try {
    tell({ locked: false, error: error instanceof Error ? error.message : String(error) });
  } catch {
    // The monitor has gone. Node would look at files to show what it cannot tell.
  }
}

function tell(message: ReadyMessage, fds: readonly number[] = []): void {
  sendJson(CHANNEL_FD, message, fds);
}
