// One SSE floating-point instruction: MXCSR's controls at its start, its flags until its end (SDM volume 1, 11.5).

import { CR4, MXCSR, STATUS_OK } from '../../layout';
import { raise } from '../raise';
import { CR4_OSXMMEXCPT, UD } from '../registers';

/** MXCSR's flags; each mask is its flag's bit moved up by MASK_SHIFT. */
export const IE: u32 = 0x01;
export const DE: u32 = 0x02;
export const ZE: u32 = 0x04;
export const OE: u32 = 0x08;
export const UE: u32 = 0x10;
export const PE: u32 = 0x20;
const MASK_SHIFT: u32 = 7;
/** Found before anything is computed. */
const PRE_COMPUTATION: u32 = 0x07;
const ALL_FLAGS: u32 = 0x3f;

const MXCSR_DAZ: u32 = 0x40;
const MXCSR_RC_SHIFT: u32 = 13;
const MXCSR_FTZ: u32 = 0x8000;

/** Rounding modes, as MXCSR.RC and the immediate of ROUND* number them. */
export const NEAREST: u32 = 0;
export const DOWN: u32 = 1;
export const UP: u32 = 2;
export const TRUNCATE: u32 = 3;

const XM: u32 = 19;

let flags: u32 = 0;
let controls: u32 = 0;

/** Begins an instruction. */
export function soft_begin(): void {
  flags = 0;
  controls = load<u32>(MXCSR);
}

/**
 * Ends an instruction: its flags become sticky in MXCSR, and an unmasked one raises #XM (#UD without
 * CR4.OSXMMEXCPT). An unmasked exception found in any operand keeps every result's flags away.
 */
export function soft_end(): i32 {
  const unmasked = flags & ~(controls >> MASK_SHIFT) & ALL_FLAGS;
  if (unmasked & PRE_COMPUTATION) flags &= PRE_COMPUTATION;
  store<u32>(MXCSR, controls | flags);
  if (unmasked == 0) return STATUS_OK;
  return raise(load<u32>(CR4) & CR4_OSXMMEXCPT ? XM : UD);
}

// @ts-ignore: decorator
@inline
export function signal(which: u32): void {
  flags |= which;
}

// @ts-ignore: decorator
@inline
export function masked(which: u32): bool {
  return (controls & (which << MASK_SHIFT)) != 0;
}

// @ts-ignore: decorator
@inline
export function rounding(): u32 {
  return (controls >> MXCSR_RC_SHIFT) & 3;
}

/** Denormal operands are zeros. */
// @ts-ignore: decorator
@inline
export function denormalsAreZeros(): bool {
  return (controls & MXCSR_DAZ) != 0;
}

/** Tiny results become zeros, as long as underflow is masked. */
// @ts-ignore: decorator
@inline
export function flushToZero(): bool {
  return (controls & MXCSR_FTZ) != 0;
}
