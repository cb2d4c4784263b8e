const EMPTY = -1;

/** A set of cluster numbers in flat memory: 16 to 32 bytes a member, because a damaged image may name millions. */
export class ClusterSet {
  #slots = new Float64Array(64).fill(EMPTY);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(cluster: number): boolean {
    return this.#slots[this.#find(cluster)] === cluster;
  }

  /** False: it was there. */
  add(cluster: number): boolean {
    const slot = this.#find(cluster);
    if (this.#slots[slot] === cluster) return false;
    this.#slots[slot] = cluster;
    this.#size++;
    if (this.#size * 2 > this.#slots.length) this.#grow();
    return true;
  }

  addRun(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster++) this.add(cluster);
  }

  delete(cluster: number): void {
    let slot = this.#find(cluster);
    if (this.#slots[slot] !== cluster) return;
    this.#size--;
    const mask = this.#slots.length - 1;
    // What follows in the same chain moves up, so that it is still found.
    for (let next = (slot + 1) & mask; ; next = (next + 1) & mask) {
      const moved = this.#slots[next]!;
      if (moved === EMPTY) break;
      const home = this.#home(moved);
      if (((next - home) & mask) >= ((next - slot) & mask)) {
        this.#slots[slot] = moved;
        slot = next;
      }
    }
    this.#slots[slot] = EMPTY;
  }

  deleteRun(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster++) this.delete(cluster);
  }

  #home(cluster: number): number {
    return (Math.imul(cluster | 0, 0x9e3779b1) ^ Math.floor(cluster / 2 ** 32)) & (this.#slots.length - 1);
  }

  /** The slot of a member, or the empty one where it would be. */
  #find(cluster: number): number {
    const mask = this.#slots.length - 1;
    let slot = this.#home(cluster);
    while (this.#slots[slot] !== EMPTY && this.#slots[slot] !== cluster) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const members = this.#slots;
    this.#slots = new Float64Array(members.length * 2).fill(EMPTY);
    for (const member of members) {
      if (member !== EMPTY) this.#slots[this.#find(member)] = member;
    }
  }
}
