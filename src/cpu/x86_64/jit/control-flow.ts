// The shape of a region's control flow: an order, dominators, loops. From it structured code is written after
// N. Ramsey, "Beyond Relooper: recursive translation of unstructured control flow to structured control flow" (2022).

import type { BasicBlock } from './region.ts';

export class FlowNode {
  readonly block: BasicBlock;
  /** Number in reverse postorder; the entry has 0. */
  readonly order: number;
  dominator: FlowNode = this;
  readonly predecessors: FlowNode[] = [];
  /** Blocks that this one immediately dominates and that several others go to, by `order`. */
  readonly merges: FlowNode[] = [];
  isLoop = false;
  isMerge = false;
  /** The block's ways, without those that structured code cannot have. One to a node whose order is not greater goes back in a loop. */
  taken: FlowNode | undefined = undefined;
  next: FlowNode | undefined = undefined;
  readonly returns: FlowNode[] = [];

  constructor(block: BasicBlock, order: number) {
    this.block = block;
    this.order = order;
  }
}

function successors(block: BasicBlock): BasicBlock[] {
  const found: BasicBlock[] = [];
  if (block.taken) found.push(block.taken);
  if (block.next) found.push(block.next);
  found.push(...block.returns);
  return found;
}

function postorder(entry: BasicBlock): BasicBlock[] {
  const order: BasicBlock[] = [];
  const seen = new Set([entry]);
  // A stack of its own: regions can be deep.
  const stack = [{ block: entry, after: successors(entry), done: 0 }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const next = top.after[top.done++];
    if (!next) {
      order.push(top.block);
      stack.pop();
    } else if (!seen.has(next)) {
      seen.add(next);
      stack.push({ block: next, after: successors(next), done: 0 });
    }
  }
  return order;
}

function common(a: FlowNode, b: FlowNode): FlowNode {
  let x = a;
  let y = b;
  while (x !== y) {
    while (x.order > y.order) x = x.dominator;
    while (y.order > x.order) y = y.dominator;
  }
  return x;
}

/** Whether `a` lies on every way from the entry to `b`. */
function dominates(a: FlowNode, b: FlowNode): boolean {
  let node = b;
  while (node.order > a.order) node = node.dominator;
  return node === a;
}

/** Gives the entry's node. */
export function analyze(entryBlock: BasicBlock): FlowNode {
  const nodes = postorder(entryBlock)
    .reverse()
    .map((block, order) => new FlowNode(block, order));
  const nodeOf = new Map(nodes.map((node) => [node.block, node]));
  for (const node of nodes) for (const to of successors(node.block)) nodeOf.get(to)?.predecessors.push(node);
  const entry = nodes[0] as FlowNode;
  // Cooper, Harvey, Kennedy: "A simple, fast dominance algorithm". Nodes that have none yet name themselves.
  for (let changed = true; changed; ) {
    changed = false;
    for (const node of nodes) {
      let dominator: FlowNode | undefined;
      for (const p of node.predecessors) {
        const isPlaced = p === entry || p.dominator !== p;
        if (isPlaced) dominator = dominator ? common(dominator, p) : p;
      }
      if (node === entry || !dominator || dominator === node.dominator) continue;
      node.dominator = dominator;
      changed = true;
    }
  }
  for (const node of nodes) {
    let forward = 0;
    for (const p of node.predecessors) if (p.order < node.order) forward++;
    node.isLoop = node.predecessors.some((p) => p.order >= node.order && dominates(node, p));
    node.isMerge = forward >= 2;
    if (node.isMerge) node.dominator.merges.push(node);
    const way = (to: BasicBlock | undefined): FlowNode | undefined => {
      const found = to && nodeOf.get(to);
      return found && (found.order > node.order || dominates(found, node)) ? found : undefined;
    };
    node.taken = way(node.block.taken);
    node.next = way(node.block.next);
    for (const to of node.block.returns) {
      const found = way(to);
      if (found) node.returns.push(found);
    }
  }
  return entry;
}
