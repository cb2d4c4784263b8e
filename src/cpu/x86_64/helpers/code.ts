// Writes to pages that code was decoded from (layout.ts, NODE_*).

import {
  BLOCK_HASH_ENTRY,
  CODE_PAGES,
  CODE_STALE,
  COUNT_INVALIDATED_BLOCKS,
  HANDLER_STALE,
  NODE_COUNT,
  NODE_HASH,
  NODE_LENGTH,
  NODE_NEXT,
  NODE_RECORDS,
  NODE_START,
  R_HANDLER,
  RECORD,
} from '../layout';

/** Makes every block decoded from [host, host + size) stale; the range is in one page. */
export function code_written(host: u32, size: u32): void {
  let link: usize = CODE_PAGES + (host >>> 12) * 4;
  let node = load<u32>(link);
  while (node) {
    const next = load<u32>(node, NODE_NEXT);
    const start = load<u32>(node, NODE_START);
    if (start < host + size && host < start + load<u32>(node, NODE_LENGTH)) {
      make_stale(node);
      store<u32>(link, next);
    } else {
      link = node + NODE_NEXT;
    }
    node = next;
  }
}

function make_stale(node: u32): void {
  store<u32>(CODE_STALE, 1);
  const records = load<u32>(node, NODE_RECORDS);
  const count = <u32>load<u16>(node, NODE_COUNT);
  for (let i: u32 = 0; i < count; i++) store<u16>(records + i * RECORD, HANDLER_STALE, R_HANDLER);
  const slot = load<u32>(node, NODE_HASH);
  if (slot) memory.fill(slot, 0, BLOCK_HASH_ENTRY);
  store<u64>(COUNT_INVALIDATED_BLOCKS, load<u64>(COUNT_INVALIDATED_BLOCKS) + 1);
}
