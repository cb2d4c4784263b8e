// `npm run bench -- kvm`: what TypeScript costs on top of KVM.
//
// Exits: a guest writes to a port, to an address without memory, or to a port with an ioeventfd, as fast as it can; the loop around
// KVM_RUN is ours, or the same in C, in turns. Start: from the start of the process to a kernel's first instruction, and out again.
// Boot, where the host's KVM runs any guest (in the lab, say): to user space, beside QEMU on the same KVM.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import { defaultGuest } from '../src/cli/guest.ts';
import { EventFd } from '../src/host/eventfd.ts';
import { SharedRegion } from '../src/host/memory.ts';
import type { Vcpu, Vm } from '../src/hypervisor/hypervisor.ts';
import { hypervisorNamed, selectHypervisor } from '../src/hypervisor/select.ts';
import { benchInitrd, check, EXIT_STATUS, EXIT_VALUE, MARKER, type Machine, PARAMS } from './boot.ts';
import { debugExitKernel, FIRST_WORD } from './lib/elf.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { type Summary, summarize } from './lib/statistics.ts';
import { timedRun } from './lib/timed-run.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
const SOURCE = fileURLToPath(new URL('kvm-exits.c', import.meta.url));
const RAM_SIZE = 0x10000;
/** Base of DS: no memory is there. */
const DEVICE = 0x200000;
const EVENT_PORT = 0x90;
/** Writes to the event's port between two exits. */
const EVENTS = 1000;
/** Exits between two looks at the clock. */
const BATCH = 1000;
const TIMEOUT = 180_000;
const MEMORY = 256;

/** Guests by what they do for ever; the same bytes are in kvm-exits.c. */
const GUESTS = {
  /** OUT 0x80, AL */
  port: { code: [0xe6, 0x80, 0xeb, 0xfc], perExit: 1 },
  /** MOV [DS:0], AL */
  mmio: { code: [0x67, 0xa2, 0, 0, 0, 0, 0xeb, 0xf8], perExit: 1 },
  /** OUT 0x90, AL a thousand times, OUT 0x80, AL */
  ioeventfd: { code: [0xb9, 0xe8, 0x03, 0xe6, EVENT_PORT, 0xe2, 0xfc, 0xe6, 0x80, 0xeb, 0xf5], perExit: EVENTS },
} as const;
type GuestName = keyof typeof GUESTS;
const NAMES: Readonly<Record<GuestName, string>> = {
  port: 'write to a port',
  mmio: 'write to MMIO',
  ioeventfd: 'write to an ioeventfd',
};

/** Exits of a vCPU (or signals that the kernel took), each second. */
function rate(vcpu: Vcpu, name: GuestName, seconds: number): number {
  const { perExit } = GUESTS[name];
  const batch = name === 'ioeventfd' ? 1 : BATCH;
  let exits = 0;
  let sum = 0;
  const start = performance.now();
  let end = start;
  do {
    for (let i = 0; i < batch; i++, exits++) {
      const exit = vcpu.run();
      if (exit.kind !== 'io-out' && exit.kind !== 'mmio-write') throw new Error(`unexpected exit: ${exit.kind}`);
      sum += exit.data[0] as number;
    }
    end = performance.now();
  } while (end - start < seconds * 1000);
  if (sum < 0) throw new Error('bytes are not negative');
  return (exits * perExit * 1000) / (end - start);
}

/** A machine with the guest loaded. */
function withGuest<T>(name: GuestName, body: (vcpu: Vcpu) => T): T {
  const region = SharedRegion.create(RAM_SIZE);
  const event = new EventFd();
  let vm: Vm | undefined;
  try {
    region.window().set(GUESTS[name].code);
    vm = hypervisorNamed('kvm').createVm({ vcpuCount: 1 });
    vm.setMemorySlot({ slot: 0, guestAddress: 0, size: RAM_SIZE, fd: region.fd, fdOffset: 0 });
    if (name === 'ioeventfd') vm.registerIoEvent(event, { space: 'pio', address: EVENT_PORT, length: 1 });
    const vcpu = vm.createVcpu(0);
    const sregs = vcpu.getSregs();
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    sregs.ds.base = BigInt(DEVICE);
    vcpu.setSregs(sregs);
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0n, rflags: 2n });
    const result = body(vcpu);
    vcpu.close();
    return result;
  } finally {
    vm?.close();
    event.close();
    region.close();
  }
}

interface ExitFigures {
  readonly name: string;
  /** Each second. */
  readonly ours: Summary;
  readonly c: Summary;
  /** Ours by C's, of the medians. */
  readonly ratio: number;
}

function exits(program: string, name: GuestName, runs: number, seconds: number): ExitFigures {
  const ours: number[] = [];
  const c: number[] = [];
  withGuest(name, (vcpu) => {
    // The loop is compiled before it counts.
    rate(vcpu, name, seconds / 2);
    for (let i = 0; i < runs; i++) {
      ours.push(rate(vcpu, name, seconds));
      c.push(Number(execFileSync(program, [name, `${seconds}`], { encoding: 'utf8' })));
    }
  });
  const figures = { name: NAMES[name], ours: summarize(ours), c: summarize(c) };
  return { ...figures, ratio: figures.ours.median / figures.c.median };
}

/** Milliseconds of runs of a kernel that ends the machine with its first instructions. */
async function start(folder: string, runs: number): Promise<Summary> {
  const kernel = join(folder, 'kernel');
  writeFileSync(kernel, debugExitKernel(EXIT_VALUE));
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const args = [VIVARIUM, 'run', '--hypervisor', 'kvm', '--mem', `${MEMORY}`, '--debug-exit', kernel];
    const run = await timedRun(process.execPath, args, FIRST_WORD, TIMEOUT);
    check('Vivarium', run, EXIT_STATUS);
    times.push(run.marker ?? Number.NaN);
  }
  return summarize(times);
}

/** Boots to user space on Vivarium and on QEMU, in turns. */
async function boots(folder: string, runs: number): Promise<readonly Machine[]> {
  const { kernel, initrd } = await defaultGuest();
  const both = join(folder, 'initrd');
  writeFileSync(both, benchInitrd(initrd));
  const machines: Machine[] = [
    {
      name: 'Vivarium',
      command: process.execPath,
      args: [
        ...[VIVARIUM, 'run', '--hypervisor', 'kvm', '--mem', `${MEMORY}`],
        ...['-p', PARAMS, '--initrd', both, kernel],
      ],
      userSpace: [],
      end: [],
    },
    {
      name: 'QEMU',
      command: 'qemu-system-x86_64',
      args: [
        ...['-accel', 'kvm', '-cpu', 'host', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config'],
        ...['-no-reboot', '-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', both],
        ...['-append', `${BASE_COMMAND_LINE} ${PARAMS}`],
      ],
      userSpace: [],
      end: [],
    },
  ];
  for (let i = 0; i < runs; i++) for (const machine of machines) await bootOnce(machine);
  return machines;
}

/** The kernel may complain here: the lab's processor has flaws that are not the machines'. */
async function bootOnce({ name, command, args, userSpace, end }: Machine): Promise<void> {
  const run = await timedRun(command, args, MARKER, TIMEOUT);
  if (run.status !== 0 || run.marker === undefined)
    throw new Error(`${name} has not come to user space: ${run.errors}`);
  userSpace.push(run.marker);
  end.push(run.end);
  process.stdout.write(`${name}: ${Math.round(run.marker)} ms to user space\n`);
}

export async function kvmBench(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { runs: { type: 'string', default: '5' }, seconds: { type: 'string', default: '1' } },
  });
  const runs = parseRuns(values.runs);
  const seconds = Number(values.seconds);
  if (!(seconds > 0 && seconds <= 60)) throw new Error('--seconds takes a number up to 60');
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const program = join(folder, 'kvm-exits');
    execFileSync('cc', ['-O2', '-o', program, SOURCE]);
    const figures = (Object.keys(GUESTS) as GuestName[]).map((name) => exits(program, name, runs, seconds));
    const first = await start(folder, Math.max(runs, 5));
    const full = selectHypervisor('auto').hypervisor.name === 'kvm';
    const machines = full && existsSync('/usr/bin/qemu-system-x86_64') ? await boots(folder, runs) : [];

    const count = (value: number): string => value.toFixed(0);
    const exitTable = table([
      ['exits a second', 'loop', 'runs', 'median', 'min', 'max', 'ratio'],
      ...figures.flatMap(({ name, ours, c, ratio }) => [
        [name, 'Vivarium', `${ours.runs}`, count(ours.median), count(ours.min), count(ours.max), ratio.toFixed(2)],
        [name, 'C', `${c.runs}`, count(c.median), count(c.min), count(c.max), ''],
      ]),
    ]);
    const summaries = machines.map(({ name, userSpace }) => ({ name, userSpace: summarize(userSpace) }));
    const timeTable = table([
      ['from the start of the process to', 'machine', 'runs', 'median ms', 'min', 'max'],
      ['the first guest instruction, and out again', 'Vivarium', `${first.runs}`, ...figuresOf(first)],
      ...summaries.map(({ name, userSpace }) => [
        'the first line of user space',
        name,
        `${userSpace.runs}`,
        ...figuresOf(userSpace),
      ]),
    ]);
    const host = describeHost();
    const kind = full ? 'KVM' : 'paravirtual KVM';
    const setting = `${host.date.slice(0, 10)}, ${kind} on ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}`;
    process.stdout.write(`${exitTable}\n\n${timeTable}\n${setting}\n`);
    const name = process.env.VIVARIUM_IN_LAB === undefined ? 'kvm' : 'kvm-lab';
    writeResults(
      name,
      { host, exits: figures, firstInstruction: first, boot: summaries },
      `# KVM\n\nMade by \`npm run bench -- kvm\`: ${setting}.\n\n${exitTable}\n\n${timeTable}\n`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function figuresOf({ median, min, max }: Summary): string[] {
  return [median, min, max].map((time) => time.toFixed(0));
}
