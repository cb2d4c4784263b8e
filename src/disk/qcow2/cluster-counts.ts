const CHUNK_BITS = 10;
const CHUNK = 2 ** CHUNK_BITS;

/** How often each cluster is used. Memory goes with the clusters that are, however far apart they lie. */
export class ClusterCounts {
  readonly #chunks = new Map<number, Uint32Array>();
  #last: Uint32Array = new Uint32Array(0);
  #lastKey = -1;

  #chunk(key: number): Uint32Array | undefined {
    if (key === this.#lastKey) return this.#last;
    const chunk = this.#chunks.get(key);
    if (chunk === undefined) return undefined;
    this.#last = chunk;
    this.#lastKey = key;
    return chunk;
  }

  get(cluster: number): number {
    return this.#chunk(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }

  add(cluster: number, times: number): void {
    const key = Math.floor(cluster / CHUNK);
    let chunk = this.#chunk(key);
    if (chunk === undefined) this.#chunks.set(key, (chunk = new Uint32Array(CHUNK)));
    chunk[cluster % CHUNK] = Math.min(0xffff_ffff, chunk[cluster % CHUNK]! + times);
  }

  set(cluster: number, times: number): void {
    this.add(cluster, 0);
    this.#chunk(Math.floor(cluster / CHUNK))![cluster % CHUNK] = times;
  }

  /** Whether one of these clusters is used. */
  any(first: number, count: number): boolean {
    const last = Math.floor((first + count - 1) / CHUNK);
    for (let key = Math.floor(first / CHUNK); key <= last; key++) {
      if (this.#chunks.get(key)?.some((times) => times > 0)) return true;
    }
    return false;
  }

  /** Clusters that are used, with how often, by rising number. */
  *entries(): Generator<readonly [cluster: number, times: number]> {
    for (const key of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.#chunks.get(key)!;
      for (let i = 0; i < CHUNK; i++) if (chunk[i]! > 0) yield [key * CHUNK + i, chunk[i]!];
    }
  }

  /** Clusters that are used more often than this. */
  *above(times: number): Generator<number> {
    for (const [cluster, found] of this.entries()) if (found > times) yield cluster;
  }
}
