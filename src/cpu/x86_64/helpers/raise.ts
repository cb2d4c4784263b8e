// Registering an exception: the engine delivers it when the instruction is left (exceptions.ts).

import { EXC_ADDRESS, EXC_ERROR, EXC_FLAGS, EXC_VECTOR, LEAVE_STATUS, STATUS_FAULT } from '../layout';

function register(vector: u32, error: u32, has_error: u32): i32 {
  store<u32>(EXC_VECTOR, vector);
  store<u32>(EXC_ERROR, error);
  store<u32>(EXC_FLAGS, has_error);
  store<u32>(LEAVE_STATUS, STATUS_FAULT);
  return STATUS_FAULT;
}

/** An exception without error code. */
export function raise(vector: u32): i32 {
  return register(vector, 0, 0);
}

export function raise_error(vector: u32, error: u32): i32 {
  return register(vector, error, 1);
}

/** #PF: CR2 gets `address` at delivery. */
export function raise_page_fault(address: u64, error: u32): i32 {
  store<u64>(EXC_ADDRESS, address);
  return register(14, error, 1);
}
