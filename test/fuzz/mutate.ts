/** Random damage to valid files. */

/** Integers from 0 to below `limit`. */
export type Random = (limit: number) => number;

/** Values at which arithmetic goes wrong. */
export const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff];

/** A damaged copy. Every second change is among the first `headerSize` bytes, where the fields are. */
export function mutate(bytes: Uint8Array, headerSize: number, random: Random): Uint8Array {
  let result = Uint8Array.from(bytes);
  for (let changes = 1 + random(4); changes > 0 && result.length > 0; changes--) {
    const range = random(2) === 0 ? Math.min(headerSize, result.length) : result.length;
    result = change(result, random(range), random);
  }
  return result;
}

function change(bytes: Uint8Array<ArrayBuffer>, at: number, random: Random): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer);
  const edge = EDGES[random(EDGES.length)] as number;
  switch (random(16)) {
    case 0:
      return bytes.slice(0, at); // cut short
    case 1: {
      const length = random(64);
      return Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at + length)]);
    }
    case 2: {
      const length = random(64);
      return Uint8Array.from([...bytes.subarray(0, at + length), ...bytes.subarray(at)]); // some of it twice
    }
    case 3:
    case 4:
      if (at + 2 <= bytes.length) view.setUint16(at, edge, true);
      return bytes;
    case 5:
    case 6:
      if (at + 4 <= bytes.length) view.setUint32(at, edge, true);
      return bytes;
    case 7:
    case 8:
      if (at + 8 <= bytes.length) view.setBigUint64(at, BigInt(edge) * (random(2) === 0 ? 1n : 0x1_0000_0001n), true);
      return bytes;
    case 9:
      bytes.fill(random(256), at, at + random(64));
      return bytes;
    case 10:
    case 11:
      bytes[at] = random(256);
      return bytes;
    default:
      bytes[at] = (bytes[at] as number) ^ (1 << random(8));
      return bytes;
  }
}
