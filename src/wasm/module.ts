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

/** Where modules are written, one after the other, and their sections: a translator makes hundreds a second. */
const out = new ByteWriter(1 << 17);
const section = new ByteWriter(1 << 17);

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

  /**
   * The module, in memory that the next one is written to.
   *
   * @param names write a name section, for profiles
   */
  finish(names = false): Uint8Array<ArrayBuffer> {
    out.clear();
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const add = (id: number, count: number, write: (w: ByteWriter) => void): void => {
      if (count === 0) return;
      section.clear();
      section.u32(count);
      write(section);
      addSection(id);
    };
    add(1, this.#types.length, (w) => {
      for (const { params, results } of this.#types) {
        w.u8(0x60);
        w.u32(params.length);
        for (const type of params) w.u8(VALTYPE[type]);
        w.u32(results.length);
        for (const type of results) w.u8(VALTYPE[type]);
      }
    });
    const importedTable = this.#table?.imported;
    add(2, this.#imports.length + (this.#memory ? 1 : 0) + (importedTable ? 1 : 0), (w) => {
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
    add(3, this.#functions.length, (w) => {
      for (const { type } of this.#functions) w.u32(type);
    });
    add(4, this.#table && !importedTable ? 1 : 0, (w) => {
      w.bytes([0x70, 0]);
      w.u32(this.#table?.minimum ?? 0);
    });
    add(7, this.#exports.length, (w) => {
      for (const { name, kind, index } of this.#exports) {
        w.name(name);
        w.u8(kind);
        w.u32(index);
      }
    });
    add(9, this.#elements.length, (w) => {
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
    this.#hintSection(bodies.filter(({ hints }) => hints.length > 0));
    add(10, bodies.length, (w) => {
      for (const { bytes } of bodies) {
        w.u32(bytes.length);
        w.bytes(bytes);
      }
    });
    if (names) this.#nameSection();
    return out.view();
  }

  /** Stands before the code (branch hinting proposal). */
  #hintSection(functions: readonly { index: number; hints: FinishedBody['hints'] }[]): void {
    if (functions.length === 0) return;
    section.clear();
    section.name('metadata.code.branch_hint');
    section.u32(functions.length);
    for (const { index, hints } of functions) {
      section.u32(index);
      section.u32(hints.length);
      for (const { offset, likely } of hints) {
        section.u32(offset);
        section.u8(1);
        section.u8(likely ? 1 : 0);
      }
    }
    addSection(0);
  }

  #nameSection(): void {
    const map = new ByteWriter(1024);
    map.u32(this.#names.size);
    for (const [index, name] of this.#names) {
      map.u32(index);
      map.name(name);
    }
    section.clear();
    section.name('name');
    section.u8(1);
    section.u32(map.length);
    section.append(map);
    addSection(0);
  }
}

function addSection(id: number): void {
  out.u8(id);
  out.u32(section.length);
  out.append(section);
}
