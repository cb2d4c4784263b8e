// Which handlers an encoding has: the decoder finds them by what it fixes beforehand.

import type { Encoding } from './encoding.ts';

/** How the memory operand's address is made. */
export type Form =
  /** ModRM.rm is a register, or there is no ModRM. */
  | 'register'
  /** base + displacement, 64-bit mode. */
  | 'base'
  /** base + index * scale + displacement + segment base, 64-bit mode. */
  | 'index'
  /** All else: legacy segmentation, 16- and 32-bit addresses. */
  | 'slow';

/** What one handler is for. */
export interface Handler {
  readonly size: number;
  readonly form: Form;
  /** Handler for 64-bit mode (lines that are `byMode`; true for all other lines). */
  readonly long: boolean;
}

/** The forms an encoding has, in the order of its handlers. */
function forms(encoding: Encoding, long: boolean): Form[] {
  const all: Form[] = [];
  if (encoding.registerForm) all.push('register');
  // Vector lines of VEX are many, and have no handlers for addresses without an index.
  if (encoding.memoryForm && long && !encoding.vexVector) all.push('base');
  if (encoding.memoryForm) all.push(...(long ? (['index', 'slow'] as const) : (['slow'] as const)));
  return all;
}

/** How many handlers an encoding has. */
export function countHandlers(encoding: Encoding): number {
  const legacy = encoding.byMode ? forms(encoding, false).length : 0;
  return encoding.sizes.length * (forms(encoding, true).length + legacy);
}

/** Every handler of an encoding, in the order of their numbers. */
export function handlersOf(encoding: Encoding): Handler[] {
  const handlers: Handler[] = [];
  for (const long of encoding.byMode ? [true, false] : [true]) {
    for (const size of encoding.sizes) {
      for (const form of forms(encoding, long)) handlers.push({ size, form, long });
    }
  }
  return handlers;
}
