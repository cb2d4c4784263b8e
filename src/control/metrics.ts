/** A machine's statistics as Prometheus reads them (its text format, version 0.0.4). */
import type { MachineStatistics } from './statistics.ts';

interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** All metrics of a machine, each with its samples under its name. */
export function metricsText(statistics: MachineStatistics): string {
  const { uptime, paused, processors, resident, balloon, disks } = statistics;
  const diskSamples = Object.entries(disks).flatMap(([disk, counts]) =>
    Object.entries(counts).map(([counter, value]) => ({ labels: { disk, counter }, value })),
  );
  return [
    metric('uptime_seconds', 'gauge', 'Time since the start of the monitor.', [{ value: uptime }]),
    metric('paused', 'gauge', 'Whether the machine stands still.', [{ value: Number(paused) }]),
    metric(
      'processor_seconds_total',
      'counter',
      'Processor time of the host that the threads of the virtual processors took.',
      processors.flatMap(({ userSeconds, systemSeconds }, index) => [
        { labels: { cpu: String(index), mode: 'user' }, value: userSeconds },
        { labels: { cpu: String(index), mode: 'system' }, value: systemSeconds },
      ]),
    ),
    metric('resident_bytes', 'gauge', 'Memory of the host that the monitor has.', [{ value: resident.total }]),
    metric('resident_shared_bytes', 'gauge', 'Part of it that is memory of the guest, or shared otherwise.', [
      { value: resident.shared },
    ]),
    metric('balloon_size_bytes', 'gauge', 'Memory that the guest is asked to give.', one(balloon?.size)),
    metric('balloon_actual_bytes', 'gauge', 'Memory that the guest has given.', one(balloon?.actual)),
    metric(
      'balloon_guest',
      'gauge',
      "The guest's own figures of its memory.",
      Object.entries(balloon?.guest ?? {}).map(([figure, value]) => ({ labels: { figure }, value })),
    ),
    metric('disk_total', 'counter', 'What was done with a disk.', diskSamples),
  ].join('');
}

function one(value: number | undefined): Sample[] {
  return value === undefined ? [] : [{ value }];
}

function metric(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return '';
  const lines = samples.map(({ labels, value }) => {
    const pairs = Object.entries(labels ?? {}).map(([label, text]) => `${label}="${quoted(text)}"`);
    return `vivarium_${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`;
  });
  return `# HELP vivarium_${name} ${help}\n# TYPE vivarium_${name} ${type}\n${lines.join('')}`;
}

function quoted(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
