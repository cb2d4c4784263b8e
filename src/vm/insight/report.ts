import type { Counts } from './channel.ts';

/** Statistics of one vCPU as lines for people: names, and values in one column. */
export function describeCounts(vcpu: number, counts: Counts): string[] {
  const entries = Object.entries(counts).map(([name, value]) => [name, format(value)] as const);
  const widths = [0, 1].map((column) => Math.max(...entries.map((entry) => (entry[column] as string).length)));
  const lines = entries.map(([name, value]) => `  ${name.padEnd(widths[0]!)}  ${value.padStart(widths[1]!)}`);
  return [`processor ${vcpu}:`, ...lines];
}

/** A whole number with separators; what is not whole, to tenths. */
function format(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: Number.isInteger(value) ? 0 : 1 });
}
