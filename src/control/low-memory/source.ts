/** How the host tells that it is low on memory: Chrome OS's kernel by a device of its own, others by pressure stall information. */
import { closeSync, constants, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { EPOLLIN, EPOLLPRI } from '../../host/epoll.ts';
import type { Poller } from '../../host/poller.ts';
import type { HostMemory } from './policy.ts';

export interface LowMemorySource {
  /** Calls back while the host is low on memory, in the poller's thread. Returns what ends that. Throws Node's system errors, OsError. */
  watch(poller: Poller, callback: () => void): () => void;
  /** Throws Node's system errors. */
  read(): HostMemory;
}

const CHROMEOS_DEVICE = '/dev/chromeos-low-mem';
const CHROMEOS_FOLDER = '/sys/kernel/mm/chromeos-low_mem';

class ChromeOs implements LowMemorySource {
  watch(poller: Poller, callback: () => void): () => void {
    const fd = openSync(CHROMEOS_DEVICE, 'r');
    return watchDescriptor(poller, fd, EPOLLIN, callback);
  }

  read(): HostMemory {
    const value = (name: string): number => Number(readFileSync(`${CHROMEOS_FOLDER}/${name}`, 'latin1').trim());
    return { available: value('available'), margin: value('margin') };
  }
}

const PRESSURE = '/proc/pressure/memory';
/**
 * Tasks waited for memory for a tenth of two seconds (Documentation/accounting/psi.rst; without privileges a window is a multiple of
 * two seconds).
 */
const TRIGGER = 'some 200000 2000000\0';
/** What should be available of all memory: Chrome OS's default is about that. */
const MARGIN = 0.05;

/** A trigger remembers what happened while nobody looked: there is a new one each time. */
class Pressure implements LowMemorySource {
  watch(poller: Poller, callback: () => void): () => void {
    const fd = openSync(PRESSURE, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      writeSync(fd, TRIGGER);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    return watchDescriptor(poller, fd, EPOLLPRI, callback);
  }

  read(): HostMemory {
    const text = readFileSync('/proc/meminfo', 'latin1');
    const mebibytes = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024;
    return { available: mebibytes('MemAvailable'), margin: mebibytes('MemTotal') * MARGIN };
  }
}

function watchDescriptor(poller: Poller, fd: number, events: number, callback: () => void): () => void {
  const token = poller.watch(fd, events, (ready) => {
    // An error alone is that the kernel gave the trigger up.
    if (ready & events) callback();
    else poller.unwatch(token);
  });
  return () => {
    poller.unwatch(token);
    closeSync(fd);
  };
}

/** What this host has; undefined: nothing. */
export function lowMemorySource(): LowMemorySource | undefined {
  if (existsSync(CHROMEOS_DEVICE)) return new ChromeOs();
  return existsSync(PRESSURE) ? new Pressure() : undefined;
}
