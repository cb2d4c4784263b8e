import { ByteWriter } from './bytes.ts';
import {
  type Callee,
  constI32,
  constI64,
  type Expr,
  localGet,
  OP_CALL,
  OP_CONST,
  OP_LOCAL,
  OP_PLACED,
  OP_SELECT,
  type Placed,
  STORES,
  type StoreOp,
  type ValType,
} from './expr.ts';

export const VALTYPE: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const scratch = new DataView(new ArrayBuffer(8));
const scratchBytes = new Uint8Array(scratch.buffer);

/** Which way a branch nearly always goes (custom section metadata.code.branch_hint): the other one is moved out of its way. */
export interface BranchHint {
  /** Of the instruction, in its function's body. */
  readonly offset: number;
  readonly likely: boolean;
}

/** Five bytes of a function's body (a signed LEB128) for a number that is known only when the function is placed in a module. */
export interface Relocation extends Placed {
  /** Of the first of the five, in the function's body. */
  readonly offset: number;
}

/** A function's entry in the code section; the offsets of hints and relocations are in it. */
export interface FinishedBody {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly hints: readonly BranchHint[];
  readonly relocations: readonly Relocation[];
}

/** Where functions are written to. */
export class CodeWriter extends ByteWriter {
  readonly relocations: Relocation[] = [];
  /** The last local.set: what it sets, where it begins and where it ends. */
  #set = -1;
  #setStart = -1;
  #setEnd = -1;

  override clear(): void {
    super.clear();
    this.relocations.length = 0;
    this.separate();
  }

  localSet(index: number): void {
    this.#setStart = this.length;
    this.u8(LOCAL_SET);
    this.u32(index);
    this.#set = index;
    this.#setEnd = this.length;
  }

  /** Of what has just been set, local.set becomes local.tee: regions have that often. */
  localGet(index: number): void {
    if (this.#set === index && this.#setEnd === this.length) {
      this.replace(this.#setStart, LOCAL_TEE);
      this.separate();
    } else {
      this.u8(LOCAL_GET);
      this.u32(index);
    }
  }

  /** What is written from here on is not joined to what stands before it. */
  separate(): void {
    this.#setEnd = -1;
  }

  placed({ kind, value }: Placed): void {
    this.relocations.push({ offset: this.length, kind, value });
    this.bytes(PLACE);
  }
}

const LOCAL_GET = 0x20;
const LOCAL_SET = 0x21;
const LOCAL_TEE = 0x22;

/** As long as any number of 32 bits. */
const PLACE = [0x80, 0x80, 0x80, 0x80, 0];

/** A structured block that is open: what `br` names. */
export interface Label {
  readonly depth: number;
}

/**
 * Writes the body of one WebAssembly function. Statements are written at once, in order; expressions are trees
 * (expr.ts) written where a statement uses them.
 */
export class FunctionBuilder {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  readonly #code: CodeWriter | undefined;
  readonly #locals: ValType[] = [];
  /** Locals that are free again, by type. */
  readonly #freeI32: Expr[] = [];
  readonly #freeI64: Expr[] = [];
  readonly #freeF32: Expr[] = [];
  readonly #freeF64: Expr[] = [];
  readonly #freeV128: Expr[] = [];
  /** Locals taken in the open scopes, and how many were before each scope, the innermost last. */
  readonly #taken: Expr[] = [];
  #takenCount = 0;
  readonly #scopes: number[] = [];
  readonly #hints: BranchHint[] = [];
  #depth = 0;

  /** `code`: where it is written to. Without it nothing is written: what a function uses is found out by doing the same. */
  constructor(params: readonly ValType[], results: readonly ValType[], code?: CodeWriter) {
    this.params = params;
    this.results = results;
    this.#code = code;
  }

  param(index: number): Expr {
    return localGet(index, this.params[index] as ValType);
  }

  local(type: ValType): Expr {
    const local = this.lasting(type);
    if (this.#scopes.length > 0) this.#taken[this.#takenCount++] = local;
    return local;
  }

  #free(type: ValType): Expr[] {
    switch (type) {
      case 'i32':
        return this.#freeI32;
      case 'i64':
        return this.#freeI64;
      case 'f32':
        return this.#freeF32;
      case 'f64':
        return this.#freeF64;
      case 'v128':
        return this.#freeV128;
    }
  }

  /** A local that no scope frees. */
  lasting(type: ValType): Expr {
    const local = this.#free(type).pop();
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
    this.#free(local.type).push(local);
  }

  /** Evaluates now and gives the value a local, so that later uses are free of effects and cost. */
  let(value: Expr): Expr {
    if (value.code === OP_CONST || value.code === OP_LOCAL || value.code === OP_PLACED) return value;
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
    const code = this.#code;
    if (!code) return;
    writeExpr(code, value);
    code.localSet(local.value as number);
  }

  store(op: StoreOp, address: Expr, value: Expr, offset = 0): void {
    const code = this.#code;
    if (!code) return;
    writeExpr(code, address);
    writeExpr(code, value);
    const opcode = STORES[op];
    if (opcode >= 0xfd00) {
      code.u8(0xfd);
      code.u32(opcode - 0xfd00);
    } else {
      code.u8(opcode);
    }
    writeMemarg(code, offset);
  }

  drop(value: Expr): void {
    this.#write([value], 0x1a);
  }

  /** Calls a function without a result. */
  call(callee: Callee, args: readonly Expr[]): void {
    this.#call(0x10, callee, args);
  }

  return(value?: Expr): void {
    this.#write(value ? [value] : [], 0x0f);
  }

  returnCall(callee: Callee, args: readonly Expr[]): void {
    this.#call(0x12, callee, args);
  }

  #call(opcode: number, callee: Callee, args: readonly Expr[]): void {
    const code = this.#code;
    if (!code) return;
    for (const arg of args) writeExpr(code, arg);
    code.u8(opcode);
    writeCallee(code, callee);
  }

  /** Tail call through table 0. */
  returnCallIndirect(typeIndex: number, args: readonly Expr[], target: Expr): void {
    this.#write([...args, target], 0x13, typeIndex, 0);
  }

  /**
   * The same at a function's end. Locals get constants before it: V8's Liftoff saves what is in registers before each call, and constants
   * are in none.
   */
  returnCallIndirectLast(typeIndex: number, args: readonly Expr[], target: Expr): void {
    for (const operand of [...args, target]) this.expr(operand);
    const types = [...this.params, ...this.#locals];
    for (const zero of [constI32(0), constI64(0)]) {
      const indices = [...types.keys()].filter((index) => types[index] === zero.type);
      const last = indices.pop();
      if (last === undefined) continue;
      this.expr(zero);
      for (const index of indices) this.#write([], LOCAL_TEE, index);
      this.#write([], LOCAL_SET, last);
    }
    this.#write([], 0x13, typeIndex, 0);
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
    const code = this.#code;
    this.expr(condition);
    this.#hint(likely);
    code?.u8(0x04);
    code?.u8(0x40);
    this.#depth++;
    then();
    if (otherwise) {
      code?.u8(0x05);
      otherwise();
    }
    this.#depth--;
    code?.u8(0x0b);
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
    const code = this.#code;
    code?.u8(opcode);
    code?.u8(0x40);
    this.#depth++;
    body({ depth: this.#depth });
    this.#depth--;
    code?.u8(0x0b);
  }

  br(label: Label): void {
    this.#write([], 0x0c, this.#depth - label.depth);
  }

  brIf(label: Label, condition: Expr): void {
    this.#brIf(label, condition);
  }

  /** A brIf() whose condition hardly ever holds. */
  brIfUnlikely(label: Label, condition: Expr): void {
    this.#brIf(label, condition, false);
  }

  #brIf(label: Label, condition: Expr, likely?: boolean): void {
    this.expr(condition);
    this.#hint(likely);
    this.#write([], 0x0d, this.#depth - label.depth);
  }

  /** Of the instruction that comes next. */
  #hint(likely: boolean | undefined): void {
    if (likely !== undefined && this.#code) this.#hints.push({ offset: this.#code.length, likely });
  }

  /** Jumps to labels[index], or to the last for any other index. */
  brTable(index: Expr, labels: readonly Label[]): void {
    this.#write([index], 0x0e, labels.length - 1, ...labels.map((label) => this.#depth - label.depth));
  }

  unreachable(): void {
    this.#code?.u8(0x00);
  }

  /** Stores before it are seen by other threads before loads after it are made. */
  fence(): void {
    this.#code?.bytes([0xfe, 0x03, 0]);
  }

  memoryCopy(to: Expr, from: Expr, length: Expr): void {
    this.#write([to, from, length], 0xfc, 0x0a, 0, 0);
  }

  /** An instruction behind its operands. */
  #write(operands: readonly Expr[], opcode: number, ...immediates: number[]): void {
    const code = this.#code;
    if (!code) return;
    for (const operand of operands) writeExpr(code, operand);
    code.u8(opcode);
    for (const immediate of immediates) code.u32(immediate);
  }

  /** Writes the tree, leaving its value on the stack. */
  expr(node: Expr): void {
    if (this.#code) writeExpr(this.#code, node);
  }

  /** Bytes of instructions written so far: what finish() has stands behind the locals' declarations. */
  get length(): number {
    return this.#code?.length ?? 0;
  }

  /** Length so far, where instructions begin that can be taken out again. */
  begin(): number {
    this.#code?.separate();
    return this.length;
  }

  finish(): FinishedBody {
    const locals = new ByteWriter(32);
    // Runs of equal types are declared together.
    const runs: { type: ValType; count: number }[] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    locals.u32(runs.length);
    for (const run of runs) {
      locals.u32(run.count);
      locals.u8(VALTYPE[run.type]);
    }
    const code = this.#code ?? new CodeWriter();
    const body = new ByteWriter(locals.length + code.length + 1);
    body.append(locals);
    body.append(code);
    body.u8(0x0b);
    return {
      bytes: body.view(),
      hints: this.#hints.map(({ offset, likely }) => ({ offset: locals.length + offset, likely })),
      relocations: code.relocations.map(({ offset, kind, value }) => ({ offset: locals.length + offset, kind, value })),
    };
  }
}

function writeCallee(code: CodeWriter, callee: Callee): void {
  if (typeof callee === 'number') code.u32(callee);
  else code.placed(callee);
}

function placedOf({ extra, value }: Expr): Placed {
  return { kind: extra as number, value: value as number };
}

/** A tree in post-order. */
function writeExpr(code: CodeWriter, node: Expr): void {
  const opcode = node.code;
  if (opcode === OP_CONST) {
    writeConstant(code, node);
    return;
  }
  if (opcode === OP_LOCAL) {
    code.localGet(node.value as number);
    return;
  }
  if (opcode === OP_PLACED) {
    code.u8(0x41);
    code.placed(placedOf(node));
    return;
  }
  for (const arg of node.args) writeExpr(code, arg);
  if (opcode === OP_CALL) {
    code.u8(0x10);
    writeCallee(code, node.extra === undefined ? (node.value as number) : placedOf(node));
  } else if (opcode === OP_SELECT) {
    code.u8(0x1b);
  } else if (opcode >= 0xfd00) {
    writeVector(code, node);
  } else if (opcode >= 0xfc00) {
    code.u8(0xfc);
    code.u32(opcode - 0xfc00);
  } else {
    code.u8(opcode);
    if (opcode >= 0x28 && opcode <= 0x35) writeMemarg(code, node.value as number);
  }
}

function writeConstant(code: ByteWriter, node: Expr): void {
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

function writeVector(code: ByteWriter, node: Expr): void {
  const op = node.code - 0xfd00;
  code.u8(0xfd);
  code.u32(op);
  if (op === 0 || op === 0x5c || op === 0x5d) writeMemarg(code, node.value as number);
  else if (node.extra instanceof Uint8Array) code.bytes(node.extra);
  else if (node.extra !== undefined) code.u8(node.extra);
}

function writeMemarg(code: ByteWriter, offset: number): void {
  // Alignment hint 0: the engines ignore it.
  code.u8(0);
  code.u32(offset);
}
