/**
 * Calls into libc. The only file that knows the foreign-function interface (koffi); it is loaded, and each function
 * declared, at its first call: a start-up that needs none pays nothing.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { BUNDLE_FOLDER } from './bundle.ts';
import { EINTR, OsError } from './errno.ts';

/** What a call takes: integers, addresses, NUL-terminated text, or memory that the call reads or fills. */
export type FfiValue = number | bigint | string | NodeJS.ArrayBufferView | null;

/**
 * A libc function. Returns its result, or the negated errno when libc reports failure by -1 (which is MAP_FAILED, too).
 * Results are exact up to 2^53: all addresses of user space are.
 */
export type LibcFunction = (...args: FfiValue[]) => number;

interface Koffi {
  load(path: null): { func(prototype: string): (...args: unknown[]) => number | bigint };
  errno(): number;
  address(value: unknown): bigint;
  as(value: unknown, type: string): unknown;
}

/**
 * Decides, by the function's name and its arguments, that a call fails with this errno; a number that is 0 or negative is, without
 * its sign, a result. Undefined lets the call through.
 */
export type FaultHook = (name: string, args: readonly FfiValue[]) => number | undefined;

const require = createRequire(import.meta.url);

/** koffi's native half, beside a bundle. */
export const KOFFI_FILE = 'koffi.node';
/** What koffi puts around its native half is for what nobody does here, and takes four times as long to load. There is one for each C library. */
const PACKAGED = [`linux_${process.arch}`, `musl_${process.arch}`];

let koffi: Koffi | undefined;
let koffiPath: string | undefined;
let library: ReturnType<Koffi['load']> | undefined;
let faultHook: FaultHook | undefined;

function loadKoffi(): Koffi {
  if (koffi !== undefined) return koffi;
  const beside = BUNDLE_FOLDER === undefined ? undefined : join(BUNDLE_FOLDER, KOFFI_FILE);
  const files = beside !== undefined && existsSync(beside) ? [beside] : packagedFiles();
  for (const [index, file] of files.entries()) {
    const module = { exports: {} as Koffi };
    try {
      process.dlopen(module, file);
    } catch (error) {
      if (index === files.length - 1) throw error;
      continue;
    }
    koffiPath = file;
    koffi = module.exports;
    break;
  }
  return koffi as Koffi;
}

function packagedFiles(): string[] {
  const native = createRequire(require.resolve('koffi')).resolve(`@koromix/koffi-linux-${process.arch}`);
  return PACKAGED.map((folder) => join(dirname(native), folder, KOFFI_FILE));
}

/** Path of koffi's native half. */
export function koffiFile(): string {
  loadKoffi();
  return koffiPath as string;
}

/** For tests: makes calls of this thread fail, or lie, without doing anything. Undefined removes the hook. */
export function setFaultHook(hook: FaultHook | undefined): void {
  faultHook = hook;
}

/** Declares a libc function by its C prototype. `variadic` gives the C types of what stands for its `...`. */
export function libc(prototype: string, variadic: readonly string[] = []): LibcFunction {
  const name = nameOf(prototype);
  let native: ((...args: unknown[]) => number | bigint) | undefined;
  const fixed = prototype.split(',').length - (variadic.length > 0 ? 1 : 0);
  return (...args) => {
    const fault = faultHook?.(name, args);
    if (fault !== undefined) return -fault;
    if (native === undefined) {
      library ??= loadKoffi().load(null);
      native = library.func(prototype);
    }
    // koffi takes each variadic argument as its type, then its value.
    const all =
      variadic.length === 0
        ? args
        : [...args.slice(0, fixed), ...variadic.flatMap((type, i) => [type, args[fixed + i]])];
    const result = Number(native(...all));
    return result === -1 ? -(koffi as Koffi).errno() : result;
  };
}

/** The function's name. By no regular expression: that would be the only one of many a process, and costs it a millisecond. */
function nameOf(prototype: string): string {
  const end = prototype.indexOf('(');
  const start = Math.max(prototype.lastIndexOf(' ', end), prototype.lastIndexOf('*', end)) + 1;
  if (start >= end) throw new TypeError(`not a C prototype: ${prototype}`);
  return prototype.slice(start, end);
}

/** Passes a call's result on; throws OsError when it is a negated errno. */
export function check(name: string, result: number): number {
  if (result < 0) throw new OsError(name, -result);
  return result;
}

/** Repeats a call that a signal interrupted (EINTR). */
export function uninterrupted(call: () => number): number {
  for (;;) {
    const result = call();
    if (result !== -EINTR) return result;
  }
}

/** Address of an ArrayBuffer's first byte in this process. */
export function addressOf(buffer: ArrayBufferLike): bigint {
  return loadKoffi().address(buffer);
}
