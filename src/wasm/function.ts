import { ByteWriter } from './bytes.ts';
import {
  type Expr,
  localGet,
  OP_CALL,
  OP_CONST,
  OP_LOCAL,
  OP_SELECT,
  STORES,
  type StoreOp,
  type ValType,
} from './expr.ts';

export const VALTYPE: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const scratch = new DataView(new ArrayBuffer(8));
const scratchBytes = new Uint8Array(scratch.buffer);

/** Which way a branch nearly always goes (custom section metadata.code.branch_hint): the other one is moved out of its way. */
interface BranchHint {
  /** Of the instruction, in its function's body. */
  readonly offset: number;
  readonly likely: boolean;
}

/** A function's entry in the code section; the hints' offsets are in it. */
export interface FinishedBody {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly hints: readonly BranchHint[];
}

/** A structured block that is open: what `br` names. */
export interface Label {
  readonly depth: number;
}

/** What most functions need at once. */
const CAPACITY = 2048;

/**
 * Writes the body of one WebAssembly function. Statements are written at once, in order; expressions are trees
 * (expr.ts) written where a statement uses them.
 */
export class FunctionBuilder {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  readonly code: ByteWriter;
  readonly #isDraft: boolean;
  readonly #locals: ValType[] = [];
  /** Locals that are free again. */
  readonly #free: Readonly<Record<ValType, Expr[]>> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  /** Locals taken in the open scopes, and how many were before each scope, the innermost last. */
  readonly #taken: Expr[] = [];
  #takenCount = 0;
  readonly #scopes: number[] = [];
  readonly #hints: BranchHint[] = [];
  #depth = 0;

  /** `isDraft`: nothing is written. The same is done as else to find out what a function uses. */
  constructor(params: readonly ValType[], results: readonly ValType[], isDraft = false) {
    this.params = params;
    this.results = results;
    this.code = new ByteWriter(isDraft ? 0 : CAPACITY);
    this.#isDraft = isDraft;
  }

  param(index: number): Expr {
    return localGet(index, this.params[index] as ValType);
  }

  local(type: ValType): Expr {
    const local = this.lasting(type);
    if (this.#scopes.length > 0) this.#taken[this.#takenCount++] = local;
    return local;
  }

  /** A local that no scope frees. */
  lasting(type: ValType): Expr {
    const local = this.#free[type].pop();
    if (local) return local;
    this.#locals.push(type);
    return localGet(this.params.length + this.#locals.length - 1, type);
  }

  /** Locals taken from here to the matching endScope() are free again then: engines compile functions of few locals faster. */
  beginScope(): void {
    this.#scopes.push(this.#takenCount);
  }

  /** Frees what the innermost scope took, but for `kept`. */
  endScope(kept: readonly Expr[]): void {
    const first = this.#scopes.pop() as number;
    for (let i = first; i < this.#takenCount; i++) {
      const local = this.#taken[i] as Expr;
      if (!kept.includes(local)) this.release(local);
    }
    this.#takenCount = first;
  }

  /** The local's value is not needed any more. */
  release(local: Expr): void {
    this.#free[local.type].push(local);
  }

  /** Evaluates now and gives the value a local, so that later uses are free of effects and cost. */
  let(value: Expr): Expr {
    if (value.code === OP_CONST || value.code === OP_LOCAL) return value;
    const local = this.local(value.type);
    this.set(local, value);
    return local;
  }

  /** Like let(), but always a fresh local: a copy of a variable that will change. */
  copy(value: Expr): Expr {
    const local = this.local(value.type);
    this.set(local, value);
    return local;
  }

  set(local: Expr, value: Expr): void {
    if (this.#isDraft) return;
    this.expr(value);
    this.code.u8(0x21);
    this.code.u32(local.value as number);
  }

  store(op: StoreOp, address: Expr, value: Expr, offset = 0): void {
    if (this.#isDraft) return;
    this.expr(address);
    this.expr(value);
    const code = STORES[op];
    if (code >= 0xfd00) {
      this.code.u8(0xfd);
      this.code.u32(code - 0xfd00);
    } else {
      this.code.u8(code);
    }
    this.#memarg(offset);
  }

  drop(value: Expr): void {
    if (this.#isDraft) return;
    this.expr(value);
    this.code.u8(0x1a);
  }

  /** Calls a function without a result. */
  call(functionIndex: number, args: readonly Expr[]): void {
    if (this.#isDraft) return;
    for (const arg of args) this.expr(arg);
    this.code.u8(0x10);
    this.code.u32(functionIndex);
  }

  return(value?: Expr): void {
    if (this.#isDraft) return;
    if (value) this.expr(value);
    this.code.u8(0x0f);
  }

  returnCall(functionIndex: number, args: readonly Expr[]): void {
    if (this.#isDraft) return;
    for (const arg of args) this.expr(arg);
    this.code.u8(0x12);
    this.code.u32(functionIndex);
  }

  /** Tail call through table 0. */
  returnCallIndirect(typeIndex: number, args: readonly Expr[], target: Expr): void {
    if (this.#isDraft) return;
    for (const arg of args) this.expr(arg);
    this.expr(target);
    this.code.u8(0x13);
    this.code.u32(typeIndex);
    this.code.u32(0);
  }

  /** How many structured blocks are open. */
  get depth(): number {
    return this.#depth;
  }

  /** A constant condition leaves only the way that is taken. */
  if(condition: Expr, then: () => void, otherwise?: () => void): void {
    this.#if(condition, then, otherwise);
  }

  /** An if() whose condition nearly always holds. */
  ifLikely(condition: Expr, then: () => void, otherwise?: () => void): void {
    this.#if(condition, then, otherwise, true);
  }

  /** An if() whose condition hardly ever holds. */
  ifUnlikely(condition: Expr, then: () => void, otherwise?: () => void): void {
    this.#if(condition, then, otherwise, false);
  }

  #if(condition: Expr, then: () => void, otherwise?: () => void, likely?: boolean): void {
    if (condition.code === OP_CONST) {
      (condition.value ? then : otherwise)?.();
      return;
    }
    this.expr(condition);
    this.#hint(likely);
    this.#byte(0x04);
    this.#byte(0x40);
    this.#depth++;
    then();
    if (otherwise) {
      this.#byte(0x05);
      otherwise();
    }
    this.#depth--;
    this.#byte(0x0b);
  }

  /** A block that `br(label)` leaves. */
  block(body: (label: Label) => void): void {
    this.#structured(0x02, body);
  }

  /** A loop whose head `br(label)` goes back to. */
  loop(body: (label: Label) => void): void {
    this.#structured(0x03, body);
  }

  #structured(opcode: number, body: (label: Label) => void): void {
    this.#byte(opcode);
    this.#byte(0x40);
    this.#depth++;
    body({ depth: this.#depth });
    this.#depth--;
    this.#byte(0x0b);
  }

  br(label: Label): void {
    if (this.#isDraft) return;
    this.code.u8(0x0c);
    this.code.u32(this.#depth - label.depth);
  }

  brIf(label: Label, condition: Expr): void {
    this.#brIf(label, condition);
  }

  /** A brIf() whose condition hardly ever holds. */
  brIfUnlikely(label: Label, condition: Expr): void {
    this.#brIf(label, condition, false);
  }

  #brIf(label: Label, condition: Expr, likely?: boolean): void {
    if (this.#isDraft) return;
    this.expr(condition);
    this.#hint(likely);
    this.code.u8(0x0d);
    this.code.u32(this.#depth - label.depth);
  }

  /** Of the instruction that comes next. */
  #hint(likely: boolean | undefined): void {
    if (likely !== undefined) this.#hints.push({ offset: this.code.length, likely });
  }

  /** Jumps to labels[index], or to the last for any other index. */
  brTable(index: Expr, labels: readonly Label[]): void {
    if (this.#isDraft) return;
    this.expr(index);
    this.code.u8(0x0e);
    this.code.u32(labels.length - 1);
    for (const label of labels) this.code.u32(this.#depth - label.depth);
  }

  unreachable(): void {
    if (this.#isDraft) return;
    this.code.u8(0x00);
  }

  /** Stores before it are seen by other threads before loads after it are made. */
  fence(): void {
    if (this.#isDraft) return;
    this.code.bytes([0xfe, 0x03, 0]);
  }

  memoryCopy(to: Expr, from: Expr, length: Expr): void {
    if (this.#isDraft) return;
    this.expr(to);
    this.expr(from);
    this.expr(length);
    this.code.bytes([0xfc, 0x0a, 0, 0]);
  }

  #byte(value: number): void {
    if (!this.#isDraft) this.code.u8(value);
  }

  /** Writes the tree in post-order, leaving its value on the stack. */
  expr(node: Expr): void {
    if (this.#isDraft) return;
    const { code } = this;
    switch (node.code) {
      case OP_CONST:
        this.#constant(node);
        return;
      case OP_LOCAL:
        code.u8(0x20);
        code.u32(node.value as number);
        return;
      default:
    }
    for (const arg of node.args) this.expr(arg);
    if (node.code === OP_CALL) {
      code.u8(0x10);
      code.u32(node.value as number);
    } else if (node.code === OP_SELECT) {
      code.u8(0x1b);
    } else if (node.code >= 0xfd00) {
      this.#vector(node);
    } else if (node.code >= 0xfc00) {
      code.u8(0xfc);
      code.u32(node.code - 0xfc00);
    } else {
      code.u8(node.code);
      if (node.code >= 0x28 && node.code <= 0x35) this.#memarg(node.value as number);
    }
  }

  #constant(node: Expr): void {
    const { code } = this;
    switch (node.type) {
      case 'i32':
        code.u8(0x41);
        code.s32(node.value as number);
        break;
      case 'i64':
        code.u8(0x42);
        code.s64(node.value as bigint);
        break;
      case 'f32':
        code.u8(0x43);
        scratch.setFloat32(0, node.value as number, true);
        code.bytes(scratchBytes.subarray(0, 4));
        break;
      case 'f64':
        code.u8(0x44);
        scratch.setFloat64(0, node.value as number, true);
        code.bytes(scratchBytes);
        break;
      case 'v128':
        code.bytes([0xfd, 0x0c]);
        code.bytes(node.extra as Uint8Array);
        break;
    }
  }

  #vector(node: Expr): void {
    const { code } = this;
    const op = node.code - 0xfd00;
    code.u8(0xfd);
    code.u32(op);
    if (op === 0 || op === 0x5c || op === 0x5d) this.#memarg(node.value as number);
    else if (node.extra instanceof Uint8Array) code.bytes(node.extra);
    else if (node.extra !== undefined) code.u8(node.extra);
  }

  #memarg(offset: number): void {
    // Alignment hint 0: the engines ignore it.
    this.code.u8(0);
    this.code.u32(offset);
  }

  finish(): FinishedBody {
    const body = new ByteWriter(this.code.length + 32);
    // Runs of equal types are declared together.
    const runs: { type: ValType; count: number }[] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    body.u32(runs.length);
    for (const run of runs) {
      body.u32(run.count);
      body.u8(VALTYPE[run.type]);
    }
    const hints = this.#hints.map(({ offset, likely }) => ({ offset: body.length + offset, likely }));
    body.append(this.code);
    body.u8(0x0b);
    return { bytes: body.finish(), hints };
  }
}
