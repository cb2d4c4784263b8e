/** Entries of refcount blocks: 1, 2, 4, 8, 16, 32 or 64 bits wide, by the width's logarithm ("order"). */
import { MAX_OFFSET } from './format.ts';

/** The largest refcount of a width; no image comes near those that are no exact numbers. */
export function largestRefcount(order: number): number {
  return order === 6 ? MAX_OFFSET : 2 ** (2 ** order) - 1;
}

/** The byte that holds (the start of) an entry. */
export function entryByte(index: number, order: number): number {
  return Math.floor((index * 2 ** order) / 8);
}

/** Reads entry `index` of the memory under `view`. */
export function readEntry(view: DataView, index: number, order: number): number {
  switch (order) {
    case 3:
      return view.getUint8(index);
    case 4:
      return view.getUint16(index * 2);
    case 5:
      return view.getUint32(index * 4);
    case 6:
      return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
    default: {
      const bit = index << order;
      return (view.getUint8(bit >> 3) >> (bit & 7)) & (2 ** (2 ** order) - 1);
    }
  }
}

/** Writes entry `index`; `value` is at most largestRefcount(). */
export function writeEntry(view: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 3:
      view.setUint8(index, value);
      break;
    case 4:
      view.setUint16(index * 2, value);
      break;
    case 5:
      view.setUint32(index * 4, value);
      break;
    case 6:
      view.setUint32(index * 8, Math.floor(value / 2 ** 32));
      view.setUint32(index * 8 + 4, value >>> 0);
      break;
    default: {
      const bit = index << order;
      const mask = (2 ** (2 ** order) - 1) << (bit & 7);
      view.setUint8(bit >> 3, (view.getUint8(bit >> 3) & ~mask) | (value << (bit & 7)));
    }
  }
}
