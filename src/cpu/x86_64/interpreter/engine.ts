// Generates the interpreter: one WebAssembly module with a handler for each shape of the instruction table, and the
// few functions that join them (find a block, leave, deliver a fault).

import { callExpr, constI32, constI64, type Expr, i32, i64, load, select } from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import { ModuleBuilder } from '../../../wasm/module.ts';
import {
  HANDLER_AFTER,
  HANDLER_BRANCH_SLOW,
  HANDLER_BREAK,
  HANDLER_CROSS,
  HANDLER_FETCH,
  HANDLER_LEFT,
  HANDLER_LOOKUP,
  HANDLER_STOP,
  HANDLER_TOO_LONG,
  HANDLER_UNDEFINED,
} from '../decode/blocks.ts';
import * as L from '../layout.ts';
import { zeroExtend } from '../semantics/emitter.ts';
import { HELPERS, type HelperName } from '../semantics/helper-names.ts';
import { allLines, FIRST_HANDLER, handlerCount, shapesOf } from '../semantics/index.ts';
import { type EngineFunctions, HANDLER, HandlerEmitter, helperType, STATUS } from './handler-emitter.ts';
import { jumpEntry, jumpKey } from './jump-cache.ts';
import { tlbEntry } from './tlb.ts';

const at = (address: number): Expr => constI32(address);

/** Translated regions that can be there at a time: the rest of the handlers' table. */
export const REGIONS_MAX = 49152;

/** Results of $find other than a record. */
const FIND_FAULT = 0;
const FIND_NOT_RAM = 1;
const FIND_STOP = 2;
const FIND_RECORD = 16;

/** The module's bytes. Imports: env.memory, helpers.* (helpers.wasm), host.decode. */
export function generateInterpreter(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', 0, L.MEMORY_PAGES);
  const helpers = new Map<HelperName, number>();
  for (const name of Object.keys(HELPERS) as HelperName[]) {
    const { params, results } = helperType(name);
    helpers.set(name, module.importFunction('helpers', name, params, results));
  }
  const decode = module.importFunction('host', 'decode', ['i32'], ['i32']);

  const handlerType = module.type(HANDLER, STATUS);
  module.defineTable(handlerCount() + REGIONS_MAX);
  module.exportTable('table');
  const find = module.declare('find', [], ['i32']);
  const sync = module.declare('sync', ['i32'], []);
  const leave = module.declare('leave', HANDLER, STATUS);
  const fault = module.declare('fault', HANDLER, STATUS);
  const after = module.declare('after', ['i32', 'i32', 'i32'], STATUS);
  const lookup = module.declare('lookup', HANDLER, STATUS);
  const lookupSlow = module.declare('lookup_slow', HANDLER, STATUS);
  const branchSlow = module.declare('branch_slow', HANDLER, STATUS);
  const posted = module.declare('posted', HANDLER, STATUS);
  const run = module.declare('run', ['i32'], STATUS);
  const engine: EngineFunctions = { helpers, handlerType, leave, after, lookup, branchSlow, sync, posted };
  const helper = (name: HelperName): number => helpers.get(name) as number;

  const count = (record: Expr): Expr => load('i32.load8_u', record, L.R_COUNT);
  const codeMode = (): Expr => i32.and(load('i32.load', at(L.MODE)), constI32(L.MODE_CODE_MASK));
  const isLong = (): Expr => i32.eq(codeMode(), constI32(L.MODE_CODE64));

  /** Ends run() with a reason already in EXIT_REASON. */
  const exit = (f: FunctionBuilder, budget: Expr): void => {
    f.store('i32.store', at(L.BUDGET), budget);
    f.return(load('i32.load', at(L.EXIT_REASON)));
  };
  const exitFor = (f: FunctionBuilder, budget: Expr, reason: number): void => {
    f.store('i32.store', at(L.EXIT_REASON), constI32(reason));
    exit(f, budget);
  };
  const dispatch = (f: FunctionBuilder, record: Expr, budget: Expr): void =>
    f.returnCallIndirect(handlerType, [record, budget], load('i32.load16_u', record, L.R_HANDLER));

  /** RIP of a record, from the code page and its offset. */
  const recordIp = (record: Expr): Expr => {
    const ip = i64.add(load('i64.load', at(L.IP_PAGE)), load('i64.load16_u', record, L.R_OFFSET));
    return select(ip, zeroExtend(4, ip), isLong());
  };

  module.define(sync, (f) => {
    const record = f.param(0);
    const ip = f.let(recordIp(record));
    f.store('i64.store', at(L.RIP), ip);
    const next = f.let(i64.add(ip, load('i64.load8_u', record, L.R_LEN)));
    f.store('i64.store', at(L.NEXT_RIP), select(next, zeroExtend(4, next), isLong()));
  });

  /** Puts a block on the list of hot ones now and then. */
  const hot = (f: FunctionBuilder, record: Expr, heat: Expr): void =>
    f.if(i32.eqz(i32.and(heat, constI32(L.HOT_LOOKUPS - 1))), () => {
      const count = f.let(load('i32.load', at(L.HOT_COUNT)));
      f.if(i32.lt_u(count, constI32(L.HOT_BLOCKS_MOST)), () => {
        f.store('i32.store', i32.add(at(L.HOT_BLOCKS), i32.shl(count, constI32(2))), record);
        f.store('i32.store', at(L.HOT_COUNT), i32.add(count, constI32(1)));
      });
    });

  /** Where the code byte at `linear` is: as tlb_fill() gives it. And its place in the TLB. */
  function fetchAddress(f: FunctionBuilder, linear: Expr): { entry: Expr; host: Expr } {
    const entry = f.let(tlbEntry(load('i32.load', at(L.TLB_BASE)), i32.wrap_i64(linear)));
    const host = f.local('i32');
    f.ifLikely(
      i64.eq(i64.and(linear, constI64(-4096)), load('i64.load', entry, L.TLB_O_EXEC)),
      () => f.set(host, i32.add(i32.wrap_i64(linear), load('i32.load', entry, L.TLB_O_ADDEND))),
      () => f.set(host, callHelper('tlb_fill', linear, constI32(2), load('i32.load', at(L.MMU_MODE)))),
    );
    return { entry, host };
  }

  const currentKey = (): Expr => jumpKey(i64.extend_i32_u(load('i32.load', at(L.MODE))));

  // Finds (or makes) the block at RIP and sets IP_PAGE.
  module.define(find, (f) => {
    const mode = f.let(load('i32.load', at(L.MODE)));
    const ip = f.let(load('i64.load', at(L.RIP)));
    const long = f.let(i32.eq(i32.and(mode, constI32(L.MODE_CODE_MASK)), constI32(L.MODE_CODE64)));
    const linear = f.copy(ip);
    f.if(i32.eqz(long), () => {
      f.set(linear, zeroExtend(4, i64.add(ip, load('i64.load', at(L.SEG_CS + L.SEG_O_BASE)))));
      f.if(i64.gt_u(ip, load('i64.load32_u', at(L.SEG_CS + L.SEG_O_LIMIT))), () => {
        f.drop(callHelper('raise_error', constI32(13), constI32(0)));
        f.return(constI32(FIND_FAULT));
      });
    });
    // Debugging looks at each instruction: the Vcpu steps.
    f.if(i32.eq(i32.and(mode, constI32(L.MODE_DEBUG | L.MODE_STEP)), constI32(L.MODE_DEBUG)), () =>
      f.return(constI32(FIND_STOP)),
    );
    const { entry, host } = fetchAddress(f, linear);
    f.if(i32.le_u(host, constI32(FIND_NOT_RAM)), () => f.return(host));
    f.store('i64.store', at(L.IP_PAGE), i64.sub(ip, i64.and(linear, constI64(4095))));
    const found = (record: Expr, node: Expr): void => {
      const heat = f.let(i32.add(load('i32.load', node, L.NODE_HEAT), constI32(1)));
      f.store('i32.store', node, heat, L.NODE_HEAT);
      hot(f, record, heat);
      // A kernel's jumps are kept where most of its TLB flushes do not matter: to global pages, in the upper half.
      const user = i32.eq(load('i32.load', at(L.MMU_MODE)), constI32(L.MMU_USER));
      const global = i32.and(load('i32.load', entry, L.TLB_O_FLAGS), constI32(L.TLB_GLOBAL));
      f.if(i32.and(long, i32.or(user, i32.and(global, i64.lt_s(ip, constI64(0))))), () => {
        const jump = f.let(jumpEntry(ip));
        f.store('i64.store', jump, ip);
        f.store('i32.store', jump, record, L.JUMP_O_RECORD);
        f.store('i32.store', jump, heat, L.JUMP_O_HEAT);
        f.store('i64.store', jump, jumpKey(i64.extend_i32_u(mode)), L.JUMP_O_KEY);
      });
      f.return(record);
    };
    const way = f.copy(
      i32.add(
        constI32(L.BLOCK_HASH),
        i32.mul(
          i32.shr_u(i32.mul(host, constI32(L.BLOCK_HASH_FACTOR)), constI32(L.BLOCK_HASH_SHIFT)),
          constI32(L.BLOCK_SET),
        ),
      ),
    );
    const end = f.let(i32.add(way, constI32(L.BLOCK_SET)));
    f.loop((next) => {
      f.if(i32.eq(load('i32.load', way), host), () => {
        const record = f.let(load('i32.load', way, L.BLOCK_O_RECORD));
        const node = f.let(i32.sub(record, constI32(L.NODE)));
        f.if(i32.eq(load('i32.load', node, L.NODE_MODE), mode), () => found(record, node));
      });
      f.set(way, i32.add(way, constI32(L.BLOCK_HASH_ENTRY)));
      f.if(i32.lt_u(way, end), () => f.br(next));
    });
    f.return(callDecode(host));
  });
  function callHelper(name: HelperName, ...args: Expr[]): Expr {
    return callExpr(helper(name), 'i32', args);
  }
  function callDecode(host: Expr): Expr {
    return callExpr(decode, 'i32', [host]);
  }

  // RIP holds where to go on.
  module.define(lookup, (f) => {
    const budget = f.param(1);
    const ip = f.let(load('i64.load', at(L.RIP)));
    const jump = f.let(jumpEntry(ip));
    const sameKey = i64.eq(load('i64.load', jump, L.JUMP_O_KEY), currentKey());
    const known = i32.and(i64.eq(load('i64.load', jump), ip), sameKey);
    f.if(i32.and(known, i32.ge_s(budget, constI32(0))), () => {
      const record = f.let(load('i32.load', jump, L.JUMP_O_RECORD));
      f.store('i64.store', at(L.IP_PAGE), i64.and(ip, constI64(-4096)));
      const handler = f.let(load('i32.load16_u', record, L.R_HANDLER));
      f.if(i32.lt_u(handler, constI32(handlerCount())), () => {
        const heat = f.let(i32.add(load('i32.load', jump, L.JUMP_O_HEAT), constI32(1)));
        f.store('i32.store', jump, heat, L.JUMP_O_HEAT);
        hot(f, record, heat);
      });
      f.returnCallIndirect(handlerType, [record, budget], handler);
    });
    f.returnCall(lookupSlow, [f.param(0), budget]);
  });

  // As lookup, past the jump cache: what it has may be stale.
  module.define(lookupSlow, (f) => {
    const budget = f.param(1);
    const record = f.let(callExpr(find, 'i32', []));
    f.if(i32.lt_s(budget, constI32(0)), () => {
      f.store('i32.store', at(L.LAST_RECORD), record);
      exitFor(f, budget, L.EXIT_BUDGET);
    });
    f.if(i32.ge_u(record, constI32(FIND_RECORD)), () => dispatch(f, record, budget));
    f.if(i32.eq(record, constI32(FIND_STOP)), () => exitFor(f, budget, L.EXIT_BUDGET));
    f.if(i32.eq(record, constI32(FIND_NOT_RAM)), () => exitFor(f, budget, L.EXIT_INTERNAL_ERROR));
    f.if(i32.eq(callHelper('deliver_exception'), constI32(L.STATUS_EXIT)), () => exit(f, budget));
    f.returnCall(lookupSlow, [f.param(0), i32.sub(budget, constI32(1))]);
  });

  // A direct branch whose target is not linked yet, or with no budget left. Budget already paid.
  module.define(branchSlow, (f) => {
    const record = f.param(0);
    const budget = f.param(1);
    const page = f.let(load('i64.load', at(L.IP_PAGE)));
    const target = f.copy(i64.add(page, load('i64.load', record, L.R_IMM)));
    f.if(i32.eqz(isLong()), () => {
      const short = i32.and(load('i32.load8_u', record, L.R_PREFIX), constI32(L.RP_OP16));
      f.set(target, select(zeroExtend(2, target), zeroExtend(4, target), short));
    });
    const far = f.let(load('i32.load', record, L.R_FAR));
    const sameKey = i64.eq(load('i64.load', record, L.R_FAR_KEY), currentKey());
    f.if(i32.and(i32.ne(far, constI32(0)), i32.and(sameKey, i32.ge_s(budget, constI32(0)))), () => {
      const handler = f.let(load('i32.load16_u', far, L.R_HANDLER));
      f.if(i32.ne(handler, constI32(L.HANDLER_STALE)), () => {
        f.store('i64.store', at(L.IP_PAGE), i64.and(target, constI64(-4096)));
        f.returnCallIndirect(handlerType, [far, budget], handler);
      });
    });
    f.store('i64.store', at(L.RIP), target);
    f.if(i32.lt_s(budget, constI32(0)), () => {
      const near = f.let(load('i32.load', record, L.R_DISP));
      // What is in another page is found hot as well.
      f.if(i32.eqz(near), () => f.returnCall(lookupSlow, [record, budget]));
      f.store('i32.store', at(L.LAST_RECORD), near);
      exitFor(f, budget, L.EXIT_BUDGET);
    });
    const generation = f.let(load('i32.load', at(L.ARENA_GENERATION)));
    const found = f.let(callExpr(find, 'i32', []));
    f.if(i32.lt_u(found, constI32(FIND_RECORD)), () => f.returnCall(lookupSlow, [record, budget]));
    // Blocks that are not kept, as those that report a fault, lie behind the arena's end.
    const kept = i32.lt_u(found, load('i32.load', at(L.ARENA_NEXT)));
    f.if(i32.and(kept, i32.eq(generation, load('i32.load', at(L.ARENA_GENERATION)))), () => {
      // Within one linear page the link holds as long as both blocks do; stale records look again by themselves.
      f.if(
        i64.eq(page, load('i64.load', at(L.IP_PAGE))),
        () => f.store('i32.store', record, found, L.R_DISP),
        () => {
          const jump = f.let(jumpEntry(target));
          const cached = i32.and(
            i64.eq(load('i64.load', jump), target),
            i32.eq(load('i32.load', jump, L.JUMP_O_RECORD), found),
          );
          // What the jump cache may keep, the link may.
          f.if(cached, () => {
            f.store('i32.store', record, found, L.R_FAR);
            f.store('i64.store', record, load('i64.load', jump, L.JUMP_O_KEY), L.R_FAR_KEY);
          });
        },
      );
    });
    dispatch(f, found, budget);
  });

  module.define(fault, (f) => {
    const record = f.param(0);
    const budget = f.let(i32.sub(f.param(1), count(record)));
    f.call(sync, [record]);
    f.store('i32.store', at(L.LAST_RECORD), record);
    f.if(i32.eq(callHelper('deliver_exception'), constI32(L.STATUS_EXIT)), () => exit(f, budget));
    f.returnCall(lookup, [record, budget]);
  });

  // An access could not be made: a fault, or a device must be asked first and the instruction starts again.
  module.define(leave, (f) => {
    const record = f.param(0);
    const status = f.let(load('i32.load', at(L.LEAVE_STATUS)));
    f.if(i32.eq(status, constI32(L.STATUS_FAULT)), () => f.returnCall(fault, [record, f.param(1)]));
    f.call(sync, [record]);
    exit(f, i32.sub(f.param(1), i32.sub(count(record), constI32(1))));
  });

  module.define(after, (f) => {
    const record = f.param(0);
    const status = f.param(2);
    f.if(i32.eq(status, constI32(L.STATUS_FAULT)), () => f.returnCall(fault, [record, f.param(1)]));
    const budget = f.let(i32.sub(f.param(1), count(record)));
    f.if(i32.eq(status, constI32(L.STATUS_EXIT)), () => exit(f, budget));
    f.if(i32.eq(status, constI32(L.STATUS_NEXT)), () => {
      f.store('i64.store', at(L.RIP), load('i64.load', at(L.NEXT_RIP)));
      const window = i32.and(
        i32.ne(load('i32.load', at(L.SHADOW)), constI32(0)),
        i32.ne(load('i32.load', at(L.IRQ_PENDING)), constI32(0)),
      );
      f.if(window, () => exitFor(f, budget, L.EXIT_IRQ_WINDOW));
    });
    f.if(load('i32.load', at(L.MMIO_POSTED)), () => exitFor(f, budget, L.EXIT_MMIO_WRITE));
    f.returnCall(lookup, [record, budget]);
  });

  module.define(posted, (f) => {
    const record = f.param(0);
    f.call(sync, [record]);
    f.store('i64.store', at(L.RIP), load('i64.load', at(L.NEXT_RIP)));
    exitFor(f, i32.sub(f.param(1), count(record)), L.EXIT_MMIO_WRITE);
  });

  module.define(run, (f) => {
    f.returnCall(lookup, [constI32(0), f.param(0)]);
  });
  module.exportFunction('run', run);

  // ---- The engine's own handlers -------------------------------------------------------------------------------------
  const special: number[] = new Array(FIRST_HANDLER).fill(-1);
  const define = (number: number, name: string, build: (f: FunctionBuilder) => void): void => {
    const index = module.declare(name, HANDLER, STATUS);
    module.define(index, build);
    special[number] = index;
  };
  /** Looks again for the instruction at this record's place; the instructions before it are paid. */
  const again = (f: FunctionBuilder, paid: Expr): void => {
    f.store('i64.store', at(L.RIP), recordIp(f.param(0)));
    f.returnCall(lookupSlow, [f.param(0), i32.sub(f.param(1), paid)]);
  };
  define(L.HANDLER_STALE, 'stale', (f) => again(f, i32.sub(count(f.param(0)), constI32(1))));
  define(HANDLER_STOP, 'stop', (f) => {
    f.store('i64.store', at(L.RIP), recordIp(f.param(0)));
    f.returnCall(lookup, [f.param(0), i32.sub(f.param(1), count(f.param(0)))]);
  });
  define(HANDLER_BREAK, 'break', (f) => {
    f.store('i64.store', at(L.RIP), recordIp(f.param(0)));
    exitFor(f, i32.sub(f.param(1), count(f.param(0))), L.EXIT_DEBUG);
  });
  // The second page of an instruction that crosses must still be the one it was decoded from.
  define(HANDLER_CROSS, 'cross', (f) => {
    const record = f.param(0);
    f.if(i32.ne(secondPage(f), load('i32.load', record, L.R_DISP)), () => {
      f.store('i64.store', at(L.RIP), recordIp(record));
      // A fault is met again by the fresh block, at the right place.
      f.drop(callHelper('forget_block', record));
      f.returnCall(lookupSlow, [record, i32.sub(f.param(1), constI32(1))]);
    });
    dispatch(f, f.let(i32.add(record, constI32(L.RECORD))), f.param(1));
  });
  define(HANDLER_FETCH, 'fetch', (f) => {
    const host = secondPage(f);
    f.if(i32.eqz(host), () => f.returnCall(fault, [f.param(0), f.param(1)]));
    again(f, constI32(1));
  });
  function secondPage(f: FunctionBuilder): Expr {
    const base = select(constI64(0), load('i64.load', at(L.SEG_CS + L.SEG_O_BASE)), isLong());
    const linear = i64.add(i64.add(load('i64.load', at(L.IP_PAGE)), base), constI64(4096));
    return fetchAddress(f, f.let(select(linear, zeroExtend(4, linear), isLong()))).host;
  }
  define(HANDLER_UNDEFINED, 'undefined', (f) => {
    f.drop(callHelper('raise', constI32(6)));
    f.returnCall(fault, [f.param(0), f.param(1)]);
  });
  define(HANDLER_TOO_LONG, 'too_long', (f) => {
    f.drop(callHelper('raise_error', constI32(13), constI32(0)));
    f.returnCall(fault, [f.param(0), f.param(1)]);
  });
  // A region leaves an instruction to the interpreter. It may stand itself in the place of the record's handler.
  define(HANDLER_LEFT, 'left', (f) => {
    const record = f.param(0);
    // A miss is over when it is filled; accesses that share a look-up and are in two pages leave again and again.
    const misses = f.let(load('i32.load', at(L.COUNT_TLB_MISSES)));
    const hadNone = i32.eq(misses, load('i32.load', at(L.LEFT_TLB_MISSES)));
    f.store('i32.store', at(L.COUNT_LEFT), i32.add(load('i32.load', at(L.COUNT_LEFT)), hadNone));
    f.store('i32.store', at(L.LEFT_TLB_MISSES), misses);
    f.store('i32.store', at(L.LEFT_REGION), load('i32.load', at(L.LEAVING_REGION)));
    const handler = f.let(load('i32.load16_u', record, L.R_HANDLER));
    const isRegion = i32.ge_u(handler, constI32(handlerCount()));
    f.if(isRegion, () => f.set(handler, load('i32.load16_u', i32.sub(record, constI32(L.NODE)), L.NODE_ORIGINAL)));
    f.returnCallIndirect(handlerType, [record, f.param(1)], handler);
  });
  // And one that a helper of it has made, with a status.
  define(HANDLER_AFTER, 'after_region', (f) =>
    f.returnCall(after, [f.param(0), f.param(1), load('i32.load', at(L.LEAVE_STATUS))]),
  );
  special[HANDLER_LOOKUP] = lookup;
  special[HANDLER_BRANCH_SLOW] = branchSlow;
  const stale = special[L.HANDLER_STALE] as number;
  module.elements(
    0,
    special.map((index) => (index < 0 ? stale : index)),
  );

  // ---- Handlers of the table -------------------------------------------------------------------------------------------
  const handlers: number[] = [];
  for (const line of allLines()) {
    for (const shape of shapesOf(line)) {
      const index = module.declare(
        `${line.name}.${shape.size * 8}.${shape.form}${shape.long ? '' : '.legacy'}`,
        HANDLER,
        STATUS,
      );
      module.define(index, (f) => {
        const emitter = new HandlerEmitter(f, shape, engine);
        line.meaning(emitter, ...shape.operands);
        if (line.encoding.lockable && shape.form !== 'register') {
          const locked = i32.and(load('i32.load8_u', f.param(0), L.R_PREFIX), constI32(L.RP_LOCK));
          f.if(locked, () => f.fence());
        }
        emitter.end();
      });
      handlers.push(index);
    }
  }
  module.elements(FIRST_HANDLER, handlers);
  return module.finish(true);
}
