import type { BalloonControl } from './machine.ts';

/** A balloon's target changed by `bytes`. As crosvm's: what goes below nothing, or above all that can be had, stops there. */
export function adjustedTarget({ target, maximum }: BalloonControl, bytes: number): number {
  return Math.min(Math.max(target + bytes, 0), maximum);
}
