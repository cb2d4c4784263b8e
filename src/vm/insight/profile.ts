// A sampled profile as Chrome's developer tools and speedscope read it: the .cpuprofile format of V8's inspector (type Profile
// of the DevTools protocol, domain Profiler).

import type { Samples } from './channel.ts';
import type { SymbolTable } from './symbols.ts';

interface CallFrame {
  readonly functionName: string;
  readonly scriptId: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  hitCount: number;
  readonly children: number[];
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  /** Microseconds, as the times below. */
  readonly startTime: number;
  readonly endTime: number;
  /** Node of each sample. */
  readonly samples: readonly number[];
  /** Time before each sample, since the one before it. */
  readonly timeDeltas: readonly number[];
}

/** Kernel code that no symbol names, and user code, are told by their page. */
const PAGE = 4096n;
/** Linux's kernel is in the upper half. */
const KERNEL_START = 2n ** 63n;

class Tree {
  readonly nodes: ProfileNode[] = [];
  readonly #known = new Map<string, ProfileNode>();

  /** The node of a path of names from the root. */
  node(path: readonly string[]): ProfileNode {
    const key = path.join('\n');
    let node = this.#known.get(key);
    if (!node) {
      const parent = path.length > 1 ? this.node(path.slice(0, -1)) : undefined;
      const functionName = path.at(-1) as string;
      const callFrame = { functionName, scriptId: '0', url: '', lineNumber: -1, columnNumber: -1 };
      node = { id: this.nodes.length + 1, callFrame, hitCount: 0, children: [] };
      this.nodes.push(node);
      parent?.children.push(node.id);
      this.#known.set(key, node);
    }
    return node;
  }
}

/** The names above and at a place, from the root on. */
function path(vcpu: number, place: bigint, space: bigint, symbols: SymbolTable): string[] {
  const root = ['(root)', `processor ${vcpu}`];
  // V8's own name: viewers know it.
  if (place === 0n) return [...root, '(idle)'];
  const page = `0x${(place - (place % PAGE)).toString(16)}`;
  if (space !== 0n) return [...root, 'user', `process with CR3 0x${space.toString(16)}`, page];
  return [...root, 'kernel', (place >= KERNEL_START ? symbols.at(place)?.name : undefined) ?? page];
}

/** A profile of the samples of all vCPUs, by index; their times are taken one vCPU after the other. */
export function cpuProfile(all: readonly Samples[], symbols: SymbolTable): CpuProfile {
  const tree = new Tree();
  tree.node(['(root)']);
  const samples: number[] = [];
  const timeDeltas: number[] = [];
  let total = 0;
  all.forEach(({ times, places, spaces }, vcpu) => {
    let before = times[0] ?? 0;
    for (const [i, time] of times.entries()) {
      const node = tree.node(path(vcpu, places[i] as bigint, spaces[i] as bigint, symbols));
      node.hitCount++;
      samples.push(node.id);
      const delta = Math.round((time - before) / 1000);
      timeDeltas.push(delta);
      total += delta;
      before = time;
    }
  });
  return { nodes: tree.nodes, startTime: 0, endTime: total, samples, timeDeltas };
}
