/**
 * Seccomp policies in minijail's format: which system calls a process may make, with which arguments.
 *
 *     # comment
 *     @include ./common_device.policy
 *     read: 1
 *     mmap: arg2 in ~PROT_EXEC && arg3 & MAP_PRIVATE || arg2 == PROT_NONE
 *     fcntl: arg1 == F_GETFL; return EPERM
 *     openat: return ENOENT
 *     ptrace: kill
 *     ioctl: arg1 == 1 || \
 *            arg1 == 2
 *
 * `1` (or `allow`) allows the call, `kill` forbids it, `return E` answers it with an error number. An expression allows the call
 * where it is true; else the call is answered with its `return`, or forbidden. `&&` binds closer than `||`. What no line names is
 * forbidden. Arguments are unsigned 64-bit numbers, as the registers hold them; `arg2 & X` is true if any bit of X is set,
 * `arg2 in X` if no bit outside X is.
 */
import { POLICY_CONSTANTS } from './policy-constants.ts';
import { SYSCALL_NUMBERS } from './syscalls.ts';

export const OPERATORS = ['==', '!=', '<=', '>=', '<', '>', '&', 'in'] as const;
export type Operator = (typeof OPERATORS)[number];

/** A comparison of an argument. */
export interface Comparison {
  /** 0 to 5. */
  readonly argument: number;
  readonly operator: Operator;
  /** 0 to 2^64 - 1. */
  readonly value: bigint;
}

/** What is done with a call: `forbid` is what ends the process. */
export type Verdict =
  | { readonly kind: 'allow' }
  | { readonly kind: 'forbid' }
  | { readonly kind: 'error'; readonly errno: number };

/** What a policy says of one system call. */
export interface Rule {
  /** The call's name. */
  readonly syscall: string;
  /** Allowed where all comparisons of any of these lists are true. */
  readonly any: readonly (readonly Comparison[])[];
  /** Else. */
  readonly otherwise: Verdict;
}

export type Policy = readonly Rule[];

/** A policy that cannot be used. `message` is one line: file, line, and what to mend. */
export class PolicyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PolicyError';
  }
}

/** Reads the file that a policy includes: its text, and the name to use in messages. Throws PolicyError. */
export type IncludeReader = (path: string) => { readonly name: string; readonly text: string };

const MAX_ERRNO = 4095n;
const MASK = 2n ** 64n - 1n;
const ALLOW: Verdict = { kind: 'allow' };
const FORBID: Verdict = { kind: 'forbid' };
const TOKEN = /\s*(?:(\|\||&&|==|!=|<=|>=|[<>&|~();])|([A-Za-z_]\w*|\d\w*))/y;

/** Reads a policy. `name` is its file's, for messages; without `include`, a policy may not include another. Throws PolicyError. */
export function parsePolicy(text: string, name: string, include?: IncludeReader): Policy {
  const rules = new Map<string, { readonly rule: Rule; readonly place: string }>();
  addLines(text, name, include, rules);
  return [...rules.values()].map(({ rule }) => rule);
}

function addLines(
  text: string,
  name: string,
  include: IncludeReader | undefined,
  rules: Map<string, { readonly rule: Rule; readonly place: string }>,
): void {
  for (const { number, line } of joinLines(text)) {
    const place = `${name}:${number}`;
    if (line.startsWith('@')) {
      const path = /^@include\s+(\.?\/\S+)$/.exec(line)?.[1];
      if (path === undefined) fail(place, `${shown(line)} is not known: only @include ./FILE and @include /FILE are`);
      if (include === undefined) fail(place, 'a file that is included includes another: write its lines here');
      const included = include(path);
      addLines(included.text, included.name, undefined, rules);
      continue;
    }
    const rule = parseRule(line, place);
    const earlier = rules.get(rule.syscall);
    if (earlier) fail(place, `${rule.syscall} has a line already, at ${earlier.place}: make one of both`);
    rules.set(rule.syscall, { rule, place });
  }
}

/** Lines without comments, those that end in a backslash joined to the next; with the number of the first. Empty ones are left out. */
function joinLines(text: string): { readonly number: number; readonly line: string }[] {
  const joined: { number: number; line: string }[] = [];
  let goesOn = false;
  for (const [index, whole] of text.split('\n').entries()) {
    const part = whole.replace(/#.*/, '').trim();
    const text = part.replace(/\\$/, '');
    const last = joined.at(-1);
    if (goesOn && last !== undefined) last.line += ` ${text}`;
    else joined.push({ number: index + 1, line: text });
    goesOn = part.endsWith('\\');
  }
  return joined.filter(({ line }) => line.trim() !== '');
}

function parseRule(line: string, place: string): Rule {
  const colon = line.indexOf(':');
  if (colon < 0) fail(place, `${shown(line)} has no colon: write SYSCALL: FILTER`);
  const syscall = line.slice(0, colon).trim();
  if (!Object.values(SYSCALL_NUMBERS).some((numbers) => numbers.has(syscall))) {
    fail(place, `${shown(syscall)} is no system call: write its name as the kernel does`);
  }
  return { syscall, ...new FilterParser(line.slice(colon + 1), place).parse() };
}

/** One line's filter. */
class FilterParser {
  readonly #place: string;
  readonly #tokens: readonly string[];
  #next = 0;

  constructor(text: string, place: string) {
    this.#place = place;
    this.#tokens = this.#split(text);
  }

  parse(): Omit<Rule, 'syscall'> {
    const filter = this.#filter();
    const rest = this.#peek();
    if (rest !== undefined) fail(this.#place, `${shown(rest)} is too much: take it out`);
    return filter;
  }

  #filter(): Omit<Rule, 'syscall'> {
    switch (this.#peek()) {
      case undefined:
        return fail(this.#place, 'the filter is missing: write 1, kill, return ERRNO, or a condition');
      case '1':
      case 'allow':
        this.#next++;
        return { any: [], otherwise: ALLOW };
      case 'kill':
        this.#next++;
        return { any: [], otherwise: FORBID };
      case 'return':
        return { any: [], otherwise: this.#return() };
    }
    const any = [this.#conjunction()];
    while (this.#take('||')) any.push(this.#conjunction());
    return { any, otherwise: this.#take(';') ? this.#return() : FORBID };
  }

  #return(): Verdict {
    if (!this.#take('return')) fail(this.#place, `${this.#here()}: only "return ERRNO" stands after a semicolon`);
    const errno = this.#value();
    if (errno > MAX_ERRNO) fail(this.#place, `error number ${errno} is too large: ${MAX_ERRNO} at most`);
    return { kind: 'error', errno: Number(errno) };
  }

  #conjunction(): readonly Comparison[] {
    const all = [this.#comparison()];
    while (this.#take('&&')) all.push(this.#comparison());
    return all;
  }

  #comparison(): Comparison {
    const argument = /^arg([0-5])$/.exec(this.#peek() ?? '')?.[1];
    if (argument === undefined) fail(this.#place, `${this.#here()}: a condition begins with arg0 to arg5`);
    this.#next++;
    const operator = OPERATORS.find((known) => known === this.#peek());
    if (operator === undefined) {
      fail(this.#place, `${this.#here()}: after arg${argument} one of ${OPERATORS.join(' ')} is needed`);
    }
    this.#next++;
    return { argument: Number(argument), operator, value: this.#value() };
  }

  /** Constants joined by `|`. */
  #value(): bigint {
    let value = this.#constant();
    while (this.#take('|')) value |= this.#constant();
    return value;
  }

  #constant(): bigint {
    // A row of ~ is a loop and no recursion: a file may hold any number of them.
    let inverted = false;
    while (this.#take('~')) inverted = !inverted;
    const value = this.#plainConstant();
    return inverted ? value ^ MASK : value;
  }

  #plainConstant(): bigint {
    const token = this.#peek();
    if (token === undefined || !/^\w+$/.test(token)) fail(this.#place, `${this.#here()}: a constant is needed`);
    this.#next++;
    const named = POLICY_CONSTANTS.get(token);
    if (named !== undefined) return named;
    if (!/^\d/.test(token)) fail(this.#place, `${shown(token)} is no constant known here: write its number`);
    if (!/^(?:0x[\da-fA-F]+|0[0-7]*|[1-9]\d*)$/.test(token)) fail(this.#place, `${shown(token)} is no number`);
    const value = BigInt(/^0\d/.test(token) ? `0o${token.slice(1)}` : token);
    if (value > MASK) fail(this.#place, `${shown(token)} is too large: numbers have 64 bits`);
    return value;
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next];
  }

  #take(token: string): boolean {
    if (this.#peek() !== token) return false;
    this.#next++;
    return true;
  }

  /** The next token, for messages. */
  #here(): string {
    const token = this.#peek();
    return token === undefined ? 'at the end of the line' : `at ${shown(token)}`;
  }

  #split(text: string): readonly string[] {
    const tokens: string[] = [];
    const trimmed = text.trimEnd();
    for (let at = 0; at < trimmed.length; at = TOKEN.lastIndex) {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(trimmed);
      if (match === null) fail(this.#place, `${shown(trimmed.slice(at).trim())} is not understood: take it out`);
      tokens.push(match[1] ?? (match[2] as string));
    }
    return tokens;
  }
}

/** Text of the file in a message: short, and printable. */
function shown(text: string): string {
  const printable = text.replace(/[^\x20-\x7e]/g, '?');
  return `"${printable.length > 40 ? `${printable.slice(0, 40)}...` : printable}"`;
}

function fail(place: string, message: string): never {
  throw new PolicyError(`${place}: ${message}`);
}
