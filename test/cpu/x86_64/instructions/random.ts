/** Random numbers for tests: fast, and the same for the same seed. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = (seed ^ 0x9e3779b9) | 0;
    this.#c = Math.imul(seed, 0x85ebca6b) | 0;
    for (let i = 0; i < 16; i++) this.u32();
  }

  /** 0 to 2^32 - 1 (generator sfc32). */
  u32(): number {
    const sum = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** 0 to `bound` - 1. */
  below(bound: number): number {
    return Math.floor((this.u32() / 0x100000000) * bound);
  }

  /** `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** A 64-bit operand: often one where carries, signs and sizes change. */
  operand(): bigint {
    switch (this.below(8)) {
      case 0:
        return this.pick(INTERESTING);
      case 1:
        return BigInt.asUintN(64, this.pick(INTERESTING) + BigInt(this.between(-2, 2)));
      case 2:
        return 1n << BigInt(this.below(64));
      case 3:
        return BigInt(this.below(300));
      case 4:
        // A short number, sign-extended.
        return BigInt.asUintN(64, BigInt.asIntN(this.pick([8, 16, 32]), this.u64()));
      case 5:
        // Runs of equal bits.
        return BigInt.asUintN(64, (this.u64() << BigInt(this.below(64))) ^ (this.oneIn(2) ? -1n : 0n));
      default:
        return this.u64();
    }
  }
}

const sizes = [8n, 16n, 32n, 64n];
const INTERESTING: readonly bigint[] = [
  0n,
  1n,
  2n,
  0xffffffffffffffffn,
  ...sizes.flatMap((n) => [(1n << n) - 1n, 1n << (n - 1n), (1n << (n - 1n)) - 1n]),
  0x5555555555555555n,
  0xaaaaaaaaaaaaaaaan,
  0x0f0f0f0f0f0f0f0fn,
  0x100000000n,
  0x10000n,
  // Sign-extended minima.
  0xffffffffffffff80n,
  0xffffffffffff8000n,
  0xffffffff80000000n,
];

/** The seed of this run: from the environment, or by the clock. */
export function seedOfRun(): number {
  const given = process.env['VIVARIUM_SEED'];
  return given === undefined ? (Date.now() ^ process.pid) >>> 0 : Number(given) >>> 0;
}

/** Cases for each instruction form. */
export function casesOfRun(): number {
  const given = Number(process.env['VIVARIUM_CASES'] ?? 2000);
  if (!Number.isSafeInteger(given) || given < 1) throw new Error('VIVARIUM_CASES is no number of cases');
  return given;
}
