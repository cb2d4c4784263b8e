// Memory accesses of a region: addresses, the TLB inline. What the TLB does not settle leaves the region: the interpreter makes that access.
// Accesses near each other share a look-up: what is looked up stays true until the region calls a helper that may change the TLB. Helpers
// that fill it do not: a mapping that was found holds until the guest flushes it.

import { constI32, constI64, type Expr, i32, i64, load } from '../../../wasm/expr.ts';
import { tlbEntry } from '../interpreter/tlb.ts';
import * as L from '../layout.ts';
import { loadSized, type Operand, storeSized, zeroExtend } from '../semantics/emitter.ts';
import { BASE_PAGE, BASE_ZERO, type Place, type RegionContext, type Span, Untranslatable } from './region-context.ts';
import { near, RegionRegisters } from './region-registers.ts';

/** Bytes of a span at most: the longer, the more often it crosses a page, and the region is left. */
const SPAN_MOST = 64;

/** Host address of an access: a local (i32) and an offset from it. */
interface Located {
  readonly host: Expr;
  readonly offset: number;
}

/** The part of RegionEmitter that is about memory. */
export abstract class RegionMemory extends RegionRegisters {
  #opened: Located | undefined;
  #linear: Expr | undefined;
  /** Accesses of the instruction so far. */
  #accesses = 0;

  // ---- Operands --------------------------------------------------------------------------------------------------------
  protected readAs(operand: Operand, signed: boolean): Expr {
    const { place, size } = operand;
    return place === 'memory' ? this.load(size, this.#address(), signed) : this.readPlace(operand, signed);
  }

  modify(operand: Operand, signed = false): Expr {
    if (operand.place !== 'memory') return this.readAs(operand, signed);
    this.#opened = this.#locate(operand.size, this.#address(), true);
    return this.#loadAt(this.#opened, operand.size, signed);
  }

  write(operand: Operand, value: Expr): void {
    const { place, size } = operand;
    if (place !== 'memory') {
      this.writePlace(operand, value);
    } else if (this.#opened) {
      storeSized(this.f, size, this.#opened.host, value, this.#opened.offset);
    } else {
      this.store(size, this.#address(), value);
    }
  }

  // ---- Addresses -----------------------------------------------------------------------------------------------------
  #base(): Expr {
    const { rm } = this.d;
    if (rm === L.ZERO) return constI64(0);
    return rm === L.IP_PAGE ? this.c.ipPage : this.register((rm - L.GPR) >> 3);
  }

  #sum(): Expr {
    const { index, scale, displacement } = this.d;
    const base = this.#base();
    const scaled = index === L.ZERO ? undefined : i64.shl(this.register((index - L.GPR) >> 3), constI64(scale));
    const sum = !scaled ? base : base.isConst ? scaled : i64.add(base, scaled);
    return i64.add(sum, constI64(displacement));
  }

  /** Where #sum() is, or that and the segment's base. */
  #sumPlace(segment: number): Place | undefined {
    const { c } = this;
    const { rm, index, scale, displacement } = this.d;
    const base = rm === L.ZERO ? ZERO_PLACE : rm === L.IP_PAGE ? PAGE_PLACE : c.places[(rm - L.GPR) >> 3];
    const scaled = index === L.ZERO ? ZERO_PLACE : c.places[(index - L.GPR) >> 3];
    if (!base || !scaled) return undefined;
    const offset = base.offset + scaled.offset * 2 ** scale + Number(displacement);
    if (scaled === ZERO_PLACE && segment === L.ZERO) return near(base.base, offset);
    const key = `${base.base} ${scaled.base} ${scale} ${segment}`;
    let sum = c.bases.get(key);
    if (sum === undefined) {
      sum = c.baseCount++;
      c.bases.set(key, sum);
    }
    return near(sum, offset);
  }

  effectiveAddress(): Expr {
    const { f } = this;
    const { form } = this.d.shape;
    if (form === 'base' || form === 'index') return this.notePlace(f.copy(this.#sum()), this.#sumPlace(L.ZERO));
    const { prefix } = this.d;
    if (prefix & L.RP_ADDR16) return f.copy(zeroExtend(2, this.#sum()));
    return f.copy(prefix & L.RP_ADDR32 ? zeroExtend(4, this.#sum()) : this.#sum());
  }

  #address(): Expr {
    const { form } = this.d.shape;
    if (form !== 'base' && form !== 'index') throw new Untranslatable();
    if (!this.#linear) {
      const segment = form === 'index' ? this.d.segment : L.ZERO;
      const linear = segment === L.ZERO ? this.#sum() : i64.add(this.#sum(), load('i64.load', constI32(segment)));
      this.#linear = this.notePlace(this.f.copy(linear), this.#sumPlace(segment));
    }
    return this.#linear;
  }

  linearAddress(_size: number, _write: boolean): Expr {
    return this.#address();
  }

  linearAddressOrRestore(): Expr {
    return this.#address();
  }

  // ---- Spans -----------------------------------------------------------------------------------------------------------
  /** The span of the access that comes next. The draft finds or makes it; undefined where the access stands alone. */
  #spanAt(place: Place | undefined, size: number, write: boolean): Span | undefined {
    const { c } = this;
    const count = this.#accesses++;
    if (!c.isDraft) {
      const span = this.d.spans[count];
      const isAlone = span && !span.host && span.accesses === 1;
      return isAlone ? undefined : span;
    }
    // What is deeper may not be run.
    const span = place && c.sharesLookUps && c.f.depth === this.depth ? draftSpan(c, place, size, write) : undefined;
    this.d.spans[count] = span;
    return undefined;
  }

  // ---- Memory ----------------------------------------------------------------------------------------------------------
  #locate(size: number, linear: Expr, write: boolean): Located {
    const { f } = this;
    const address = this.let(linear);
    const place = this.placeOf(address);
    const span = this.#spanAt(place, size, write);
    const host = f.local('i32');
    // The rest of a span is at small offsets from its first byte, which are a part of loads and stores.
    const offset = place && span ? place.offset - span.min : 0;
    if (!span || !place) {
      f.set(host, this.#lookUp(address, size, write));
    } else if (span.host) {
      f.set(host, span.host);
    } else {
      span.host = f.lasting('i32');
      const first = f.let(i64.sub(address, constI64(offset)));
      f.set(span.host, this.#lookUp(first, span.max - span.min, span.write));
      f.set(host, span.host);
    }
    if (span) this.#written(span);
    return { host, offset };
  }

  /** Host address (i32) of `size` bytes, which are in one page that the TLB has. */
  #lookUp(address: Expr, size: number, write: boolean): Expr {
    const { f, c, d } = this;
    const entry = f.let(tlbEntry(c.tlb, i32.wrap_i64(address)));
    // The page of the last byte: an access that crosses pages never matches.
    const page = i64.and(i64.add(address, constI64(size - 1)), constI64(-4096));
    f.ifUnlikely(i64.ne(page, load('i64.load', entry, write ? L.TLB_O_WRITE : L.TLB_O_READ)), () =>
      c.exit('interpret', d.record, i32.add(c.budget, constI32(d.count - c.unpaid))),
    );
    return i32.add(i32.wrap_i64(address), load('i32.load', entry, L.TLB_O_ADDEND));
  }

  #written(span: Span): void {
    span.accesses--;
    if (span.accesses === 0) this.f.release(span.host as Expr);
  }

  #loadAt({ host, offset }: Located, size: number, signed: boolean): Expr {
    return this.f.let(loadSized(size, host, offset, signed));
  }

  load(size: number, linear: Expr, signed = false): Expr {
    return this.#loadAt(this.#locate(size, linear, false), size, signed);
  }

  store(size: number, linear: Expr, value: Expr): void {
    const { host, offset } = this.#locate(size, linear, true);
    storeSized(this.f, size, host, value, offset);
  }

  #hostOf({ host, offset }: Located): Expr {
    return this.f.let(i32.add(host, constI32(offset)));
  }

  hostForRead(size: number): Expr {
    return this.#hostOf(this.#locate(size, this.#address(), false));
  }

  hostForWrite(size: number): Expr {
    this.#opened = this.#locate(size, this.#address(), true);
    return this.#hostOf(this.#opened);
  }

  /** What is not to be written at its host address leaves the region. */
  commit(): void {}
}

const ZERO_PLACE: Place = { base: BASE_ZERO, offset: 0 };
const PAGE_PLACE: Place = { base: BASE_PAGE, offset: 0 };

/** The span that an access joins, or a new one. */
function draftSpan(c: RegionContext, { base, offset }: Place, size: number, write: boolean): Span {
  for (const span of c.spans) {
    const min = Math.min(span.min, offset);
    const max = Math.max(span.max, offset + size);
    if (span.base !== base || (write && !span.write) || max - min > SPAN_MOST) continue;
    span.min = min;
    span.max = max;
    span.accesses++;
    return span;
  }
  const span: Span = { base, write, min: offset, max: offset + size, accesses: 1, host: undefined };
  c.spans = [...c.spans, span];
  return span;
}
