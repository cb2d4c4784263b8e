// Memory accesses of a region: addresses, the TLB inline.

import { callExpr, constI32, constI64, type Expr, i32, i64, load } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { loadSized, type Operand, storeSized, zeroExtend } from '../semantics/emitter.ts';
import type { HelperName } from '../semantics/helper-names.ts';
import { Untranslatable } from './region-context.ts';
import { RegionRegisters } from './region-registers.ts';

/** The part of RegionEmitter that is about memory. */
export abstract class RegionMemory extends RegionRegisters {
  #opened: Expr | undefined;
  #linear: Expr | undefined;
  /** Something may wait for the instruction's end: a device write, code made stale. */
  protected mayPost = false;

  protected abstract helper(name: HelperName): number;

  /** The access could not be made: the instruction is left as LEAVE_STATUS says. */
  protected abstract leave(): void;

  // ---- Operands --------------------------------------------------------------------------------------------------------
  protected readAs(operand: Operand, signed: boolean): Expr {
    const { place, size } = operand;
    if (place === 'memory') return this.f.let(loadSized(size, this.hostForRead(size), 0, signed));
    return this.readPlace(operand, signed);
  }

  modify(operand: Operand, signed = false): Expr {
    if (operand.place !== 'memory') return this.readAs(operand, signed);
    this.#opened = this.hostForWrite(operand.size, true);
    return this.f.let(loadSized(operand.size, this.#opened, 0, signed));
  }

  write(operand: Operand, value: Expr): void {
    const { place, size } = operand;
    if (place !== 'memory') {
      this.writePlace(operand, value);
    } else if (this.#opened) {
      storeSized(this.f, size, this.#opened, value);
      this.commit();
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

  effectiveAddress(): Expr {
    const { f } = this;
    const { form } = this.d.shape;
    if (form === 'base' || form === 'index') return f.copy(this.#sum());
    const { prefix } = this.d;
    if (prefix & L.RP_ADDR16) return f.copy(zeroExtend(2, this.#sum()));
    return f.copy(prefix & L.RP_ADDR32 ? zeroExtend(4, this.#sum()) : this.#sum());
  }

  #address(): Expr {
    const { f } = this;
    const { form } = this.d.shape;
    if (form !== 'base' && form !== 'index') throw new Untranslatable();
    const { segment } = this.d;
    const withSegment = form === 'index' && segment !== L.ZERO;
    this.#linear ??= f.copy(withSegment ? i64.add(this.#sum(), load('i64.load', constI32(segment))) : this.#sum());
    return this.#linear;
  }

  linearAddress(_size: number, _write: boolean): Expr {
    return this.#address();
  }

  linearAddressOrRestore(): Expr {
    return this.#address();
  }

  // ---- Memory ----------------------------------------------------------------------------------------------------------
  #translate(size: number, linear: Expr, tag: number, slow: HelperName): Expr {
    const { f } = this;
    const address = f.let(linear);
    const host = f.local('i32');
    const entry = f.let(
      i32.add(
        this.c.tlb,
        i32.and(i32.shr_u(i32.wrap_i64(address), constI32(7)), constI32((L.TLB_ENTRIES - 1) * L.TLB_ENTRY)),
      ),
    );
    // The page of the last byte: an access that crosses pages never matches.
    const page = i64.and(i64.add(address, constI64(size - 1)), constI64(-4096));
    f.ifLikely(
      i64.eq(page, load('i64.load', entry, tag)),
      () => f.set(host, i32.add(i32.wrap_i64(address), load('i32.load', entry, L.TLB_O_ADDEND))),
      () => {
        f.set(host, callExpr(this.helper(slow), 'i32', [address, constI32(size), this.record()]));
        f.ifUnlikely(i32.eqz(host), () => this.leave());
        if (tag === L.TLB_O_WRITE) f.set(this.c.slow, constI32(1));
      },
    );
    return host;
  }

  load(size: number, linear: Expr, signed = false): Expr {
    return this.f.let(loadSized(size, this.#translate(size, linear, L.TLB_O_READ, 'load_slow'), 0, signed));
  }

  store(size: number, linear: Expr, value: Expr): void {
    const { f } = this;
    const host = this.#translate(size, linear, L.TLB_O_WRITE, 'store_slow');
    storeSized(f, size, host, value);
    this.#commitAt(host);
  }

  #commitAt(host: Expr): void {
    const { f } = this;
    f.ifUnlikely(this.c.slow, () => {
      f.if(i32.eq(host, constI32(L.SCRATCH)), () => f.drop(callExpr(this.helper('commit_store'), 'i32', [])));
    });
    this.mayPost = true;
  }

  hostForRead(size: number): Expr {
    return this.#translate(size, this.#address(), L.TLB_O_READ, 'load_slow');
  }

  hostForWrite(size: number, read: boolean): Expr {
    const host = this.#translate(size, this.#address(), L.TLB_O_WRITE, read ? 'rmw_slow' : 'store_slow');
    this.#opened = host;
    return host;
  }

  commit(): void {
    if (this.#opened) this.#commitAt(this.#opened);
  }
}
