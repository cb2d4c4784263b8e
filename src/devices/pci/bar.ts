/** Base address registers (PCI Local Bus 3.0, 6.2.5.1). */

export const BAR_COUNT = 6;

export interface BarDescription {
  /** Number of the register, 0 to 5; a 64-bit BAR takes the next one too. */
  readonly index: number;
  readonly kind: 'io' | 'memory32' | 'memory64';
  /** Bytes, a power of two: 4 to 256 for ports, 16 to 2 GiB for memory. */
  readonly size: number;
  /** Reading has no side effects; only for memory. */
  readonly prefetchable?: boolean;
}

/** First register's flag bits. */
const IO_SPACE = 0x1;
const MEMORY_64 = 0x4;
const PREFETCHABLE = 0x8;

const SMALLEST_IO = 4;
const LARGEST_IO = 256;
const SMALLEST_MEMORY = 16;
const LARGEST_MEMORY = 2 ** 31;
/** High half of the first address that no processor can reach (52 bits). */
const HIGH_END = 2 ** 20;
const PORTS_END = 0x10000;

/** Throws RangeError for BARs that no function can have. */
export function checkBars(bars: readonly BarDescription[]): void {
  const taken = new Set<number>();
  for (const { index, kind, size } of bars) {
    const [smallest, largest] = kind === 'io' ? [SMALLEST_IO, LARGEST_IO] : [SMALLEST_MEMORY, LARGEST_MEMORY];
    if (!Number.isInteger(Math.log2(size)) || size < smallest || size > largest) {
      throw new RangeError(`BAR ${index}: ${size} bytes are no size for it`);
    }
    for (const register of kind === 'memory64' ? [index, index + 1] : [index]) {
      if (!Number.isInteger(register) || register < 0 || register >= BAR_COUNT || taken.has(register)) {
        throw new RangeError(`BAR ${index}: no register ${register} for it`);
      }
      taken.add(register);
    }
  }
}

/** The flags in the low bits of the first register. */
export function barFlags(bar: BarDescription): number {
  if (bar.kind === 'io') return IO_SPACE;
  return (bar.kind === 'memory64' ? MEMORY_64 : 0) | (bar.prefetchable === true ? PREFETCHABLE : 0);
}

/** Where a BAR with these registers is; undefined where it is not placed, or out of reach. */
export function barAddress(bar: BarDescription, low: number, high: number): number | undefined {
  const base = (low & ~(bar.size - 1)) >>> 0;
  if (bar.kind === 'io') return base === 0 || base + bar.size > PORTS_END ? undefined : base;
  if (bar.kind === 'memory32') return base === 0 ? undefined : base;
  const address = (high >>> 0) * 2 ** 32 + base;
  return high >>> 0 >= HIGH_END || address === 0 ? undefined : address;
}
