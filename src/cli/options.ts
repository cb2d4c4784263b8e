// Reading option values. An error names the option, the value and what would do.

import { InvalidArgumentError } from 'commander';

/** A whole number in a range; `what` says what kind of number it is. */
export function integer(least: number, most: number, what: string): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) {
      const range = most === Number.POSITIVE_INFINITY ? `from ${least} on` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`it takes ${what} ${range}`);
    }
    return value;
  };
}

/** One of a few words. */
export function oneOf<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    const choice = choices.find((word) => word === text);
    if (choice === undefined) throw new InvalidArgumentError(`it takes one of ${choices.join(', ')}`);
    return choice;
  };
}

/** Makes an option that is given twice an error. */
export function once<T>(parse: (text: string) => T): (text: string, previous: T | undefined) => T {
  let seen = false;
  return (text) => {
    if (seen) throw new InvalidArgumentError('it may be given once only');
    seen = true;
    return parse(text);
  };
}

/** Values of an option that may be repeated, each read by `parse`. */
export function collectParsed<T>(
  parse: (text: string) => T,
): (text: string, previous: readonly T[] | undefined) => T[] {
  return (text, previous) => [...(previous ?? []), parse(text)];
}

export const asIs = (text: string): string => text;
