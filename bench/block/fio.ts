/** Jobs of fio in a guest, and what it says of them. */
import { RunningGuest } from '../../test/e2e/running-guest.ts';

/** Each for so long, in seconds. */
export const SECONDS = 3;
const DEPTHS = [1, 32];
const KINDS = [
  { rw: 'randread', size: '4k', what: 'random reads of 4 KiB' },
  { rw: 'randwrite', size: '4k', what: 'random writes of 4 KiB' },
  { rw: 'read', size: '1M', what: 'sequential reads of 1 MiB' },
  { rw: 'write', size: '1M', what: 'sequential writes of 1 MiB' },
] as const;

export interface Job {
  readonly name: string;
  readonly what: string;
  readonly depth: number;
  /** Arguments for fio. */
  readonly args: string;
}

export const JOBS: readonly Job[] = DEPTHS.flatMap((depth) =>
  KINDS.map(({ rw, size, what }) => ({
    name: `${rw}-${depth}`,
    what,
    depth,
    args: `--rw=${rw} --bs=${size} --iodepth=${depth}`,
  })),
);

/** Rounds in one guest: in the first, nothing has been translated or read before. */
export const ROUNDS = ['first', 'later'] as const;
export type Round = (typeof ROUNDS)[number];

/** In the place of the default guest's console script. fio's disk is the first, the one it works on the second; past the guest's cache. */
export const SCRIPT = `#!/bin/sh
modprobe -q ext4
mount -t ext4 -o ro /dev/vda /mnt
for folder in dev proc sys; do mount -o bind /$folder /mnt/$folder; done
fio() {
  chroot /mnt /usr/bin/fio --minimal --filename=/dev/vdb --direct=1 --ioengine=libaio --time_based --runtime=${SECONDS} "$@"
}
${ROUNDS.flatMap((round) => JOBS.map(({ name, args }) => `fio --name=${round}-${name} ${args}`)).join('\n')}
poweroff
sleep 60
`;

// Places in fio's terse format, version 3: requests a second of reads and of writes.
const NAME = 2;
const READ_IOPS = 7;
const WRITE_IOPS = 48;

/** Runs a guest with SCRIPT to its end. Requests a second by round and job: `first-randread-1`. */
export async function runFio(command: string, args: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const guest = new RunningGuest(command, args);
  try {
    await guest.end();
  } finally {
    await guest.kill();
  }
  const lines = guest.output.split('\n').filter((line) => line.startsWith('3;fio-'));
  if (lines.length < ROUNDS.length * JOBS.length) throw new Error(`fio has not done all its jobs:\n${guest.output}`);
  return new Map(
    lines.map((line) => {
      const fields = line.split(';');
      return [fields[NAME] as string, Number(fields[READ_IOPS]) + Number(fields[WRITE_IOPS])];
    }),
  );
}
