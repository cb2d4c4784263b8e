import { ByteWriter } from './bytes.ts';
import type { ValType } from './expr.ts';
import { CodeWriter, type FinishedBody, FunctionBuilder, VALTYPE } from './function.ts';

interface Signature {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

interface Declared {
  readonly type: number;
  body: Body | undefined;
}

/** A function's body in a module. */
type Body = Pick<FinishedBody, 'bytes' | 'hints'>;

/** Writes a WebAssembly module (core specification, section 5.5): function imports first, then functions. */
export class ModuleBuilder {
  readonly #types: Signature[] = [];
  readonly #typeIndex = new Map<string, number>();
  readonly #imports: { module: string; name: string; type: number }[] = [];
  readonly #functions: Declared[] = [];
  readonly #exports: { name: string; kind: number; index: number }[] = [];
  readonly #names = new Map<number, string>();
  #memory: { module: string; name: string; minimum: number; maximum: number } | undefined;
  #table: { minimum: number; imported?: { module: string; name: string } } | undefined;
  /** Where functions are written, one after the other. */
  readonly #code = new CodeWriter(1 << 13);
  readonly #elements: { offset: number; functions: number[] }[] = [];

  type(params: readonly ValType[], results: readonly ValType[]): number {
    const key = `${params.join()}:${results.join()}`;
    let index = this.#typeIndex.get(key);
    if (index === undefined) {
      index = this.#types.push({ params, results }) - 1;
      this.#typeIndex.set(key, index);
    }
    return index;
  }

  /** Gives the function's index. Imports come before any function. */
  importFunction(module: string, name: string, params: readonly ValType[], results: readonly ValType[]): number {
    if (this.#functions.length > 0) throw new Error('imports come before functions');
    const index = this.#imports.push({ module, name, type: this.type(params, results) }) - 1;
    this.#names.set(index, name);
    return index;
  }

  /** @param minimum pages of 64 KiB */
  importMemory(module: string, name: string, minimum: number, maximum: number): void {
    this.#memory = { module, name, minimum, maximum };
  }

  importTable(module: string, name: string, minimum: number): void {
    this.#table = { minimum, imported: { module, name } };
  }

  defineTable(size: number): void {
    this.#table = { minimum: size };
  }

  exportTable(name: string): void {
    this.#exports.push({ name, kind: 1, index: 0 });
  }

  /** Reserves an index, so that functions can call each other; define() gives the body. */
  declare(name: string, params: readonly ValType[], results: readonly ValType[]): number {
    this.#functions.push({ type: this.type(params, results), body: undefined });
    const index = this.#imports.length + this.#functions.length - 1;
    this.#names.set(index, name);
    return index;
  }

  define(index: number, build: (f: FunctionBuilder) => void): void {
    const declared = this.#functions[index - this.#imports.length] as Declared;
    const { params, results } = this.#types[declared.type] as Signature;
    this.#code.clear();
    const body = new FunctionBuilder(params, results, this.#code);
    build(body);
    declared.body = body.finish();
  }

  /** define(), with a body that is there: its relocations have been made. */
  defineFinished(index: number, body: Body): void {
    (this.#functions[index - this.#imports.length] as Declared).body = body;
  }

  exportFunction(name: string, index: number): void {
    this.#exports.push({ name, kind: 0, index });
  }

  /** Fills table entries from `offset` on when the module is instantiated. */
  elements(offset: number, functions: readonly number[]): void {
    this.#elements.push({ offset, functions: [...functions] });
  }

  /** @param names write a name section, for profiles */
  finish(names = false): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter(1 << 16);
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, count: number, write: (w: ByteWriter) => void): void => {
      if (count === 0) return;
      const body = new ByteWriter(1024);
      body.u32(count);
      write(body);
      out.u8(id);
      out.u32(body.length);
      out.append(body);
    };
    section(1, this.#types.length, (w) => {
      for (const { params, results } of this.#types) {
        w.u8(0x60);
        w.u32(params.length);
        for (const type of params) w.u8(VALTYPE[type]);
        w.u32(results.length);
        for (const type of results) w.u8(VALTYPE[type]);
      }
    });
    const importedTable = this.#table?.imported;
    section(2, this.#imports.length + (this.#memory ? 1 : 0) + (importedTable ? 1 : 0), (w) => {
      for (const { module, name, type } of this.#imports) {
        w.name(module);
        w.name(name);
        w.u8(0);
        w.u32(type);
      }
      if (importedTable) {
        w.name(importedTable.module);
        w.name(importedTable.name);
        w.bytes([1, 0x70, 0]);
        w.u32(this.#table?.minimum ?? 0);
      }
      if (this.#memory) {
        w.name(this.#memory.module);
        w.name(this.#memory.name);
        w.bytes([2, 1]);
        w.u32(this.#memory.minimum);
        w.u32(this.#memory.maximum);
      }
    });
    section(3, this.#functions.length, (w) => {
      for (const { type } of this.#functions) w.u32(type);
    });
    section(4, this.#table && !importedTable ? 1 : 0, (w) => {
      w.bytes([0x70, 0]);
      w.u32(this.#table?.minimum ?? 0);
    });
    section(7, this.#exports.length, (w) => {
      for (const { name, kind, index } of this.#exports) {
        w.name(name);
        w.u8(kind);
        w.u32(index);
      }
    });
    section(9, this.#elements.length, (w) => {
      for (const { offset, functions } of this.#elements) {
        w.bytes([0, 0x41]);
        w.s32(offset);
        w.u8(0x0b);
        w.u32(functions.length);
        for (const index of functions) w.u32(index);
      }
    });
    const bodies = this.#functions.map(({ body }, i) => {
      const index = this.#imports.length + i;
      if (!body) throw new Error(`function ${this.#names.get(index)} was never defined`);
      return { index, ...body };
    });
    this.#hintSection(
      out,
      bodies.filter(({ hints }) => hints.length > 0),
    );
    section(10, bodies.length, (w) => {
      for (const { bytes } of bodies) {
        w.u32(bytes.length);
        w.bytes(bytes);
      }
    });
    if (names) this.#nameSection(out);
    return out.finish();
  }

  /** Stands before the code (branch hinting proposal). */
  #hintSection(out: ByteWriter, functions: readonly { index: number; hints: FinishedBody['hints'] }[]): void {
    if (functions.length === 0) return;
    const body = new ByteWriter(1024);
    body.name('metadata.code.branch_hint');
    body.u32(functions.length);
    for (const { index, hints } of functions) {
      body.u32(index);
      body.u32(hints.length);
      for (const { offset, likely } of hints) {
        body.u32(offset);
        body.bytes([1, likely ? 1 : 0]);
      }
    }
    out.u8(0);
    out.u32(body.length);
    out.append(body);
  }

  #nameSection(out: ByteWriter): void {
    const map = new ByteWriter(1024);
    map.u32(this.#names.size);
    for (const [index, name] of this.#names) {
      map.u32(index);
      map.name(name);
    }
    const body = new ByteWriter(map.length + 16);
    body.name('name');
    body.u8(1);
    body.u32(map.length);
    body.append(map);
    out.u8(0);
    out.u32(body.length);
    out.append(body);
  }
}
