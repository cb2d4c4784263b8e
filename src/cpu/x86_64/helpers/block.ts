// What the engine asks about its own decoded blocks.

import { BLOCK_HASH_ENTRY, NODE, NODE_HASH } from '../layout';

/** Takes the block whose first record this is out of the look-up. */
export function forget_block(record: i32): i32 {
  const slot = load<u32>(record - NODE, NODE_HASH);
  if (slot) memory.fill(slot, 0, BLOCK_HASH_ENTRY);
  return 0;
}
