/** Reading and writing C structures by one description of each: offset, type and name of every field in use. */

/** `s32` to `u8` are numbers, `u64` is a bigint. */
export type FieldType = 'u8' | 'u16' | 'u32' | 's32' | 'u64';

/** Offset in bytes, type, and the element count of an array. */
export type Field = readonly [offset: number, type: FieldType, count?: number];

/** A structure. Field names are C's own designators: `io.port` is a member of a member. */
export interface Struct<F extends Record<string, Field> = Record<string, Field>> {
  /** C's tag: `kvm_regs`. */
  readonly name: string;
  /** Bytes. A flexible array at the end is not counted, as in C. */
  readonly size: number;
  readonly fields: F;
}

type Value<T extends FieldType> = T extends 'u64' ? bigint : number;

const BYTES: Readonly<Record<FieldType, number>> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 };

export function struct<const F extends Record<string, Field>>(name: string, size: number, fields: F): Struct<F> {
  return { name, size, fields };
}

/** Zeroed memory for one structure and `extra` bytes after it. */
export function allocate(type: Struct, extra = 0): DataView<ArrayBuffer> {
  return new DataView(new ArrayBuffer(type.size + extra));
}

/** A field's value. `base` is where the structure starts, in bytes; `index` selects an element of an array. */
export function get<F extends Record<string, Field>, N extends keyof F>(
  type: Struct<F>,
  view: DataView,
  name: N,
  base = 0,
  index = 0,
): Value<F[N][1]> {
  const [offset, kind] = type.fields[name] as Field;
  const at = base + offset + index * BYTES[kind];
  return read(view, at, kind) as Value<F[N][1]>;
}

/** Sets a field; numbers are cut to its width. */
export function set<F extends Record<string, Field>, N extends keyof F>(
  type: Struct<F>,
  view: DataView,
  name: N,
  value: Value<F[N][1]>,
  base = 0,
  index = 0,
): void {
  const [offset, kind] = type.fields[name] as Field;
  const at = base + offset + index * BYTES[kind];
  if (kind === 'u64') view.setBigUint64(at, value as bigint, true);
  else if (kind === 'u8') view.setUint8(at, value as number);
  else if (kind === 'u16') view.setUint16(at, value as number, true);
  else view.setUint32(at, value as number, true);
}

function read(view: DataView, at: number, kind: FieldType): number | bigint {
  switch (kind) {
    case 'u8':
      return view.getUint8(at);
    case 'u16':
      return view.getUint16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 's32':
      return view.getInt32(at, true);
    case 'u64':
      return view.getBigUint64(at, true);
  }
}
