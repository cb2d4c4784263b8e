// A device for tests: does what it is asked for, allowed or not.

import { libc } from '../../src/host/ffi.ts';
import { messageSocketPair } from '../../src/host/unix-socket.ts';
import { receiveJson, sendJson } from '../../src/jail/channel.ts';
import { type DeviceStart, runInJail } from '../../src/jail/inside.ts';

/** What the test asks for. */
export type Request =
  /** Answers with what it was started with. */
  | { readonly act: 'start' }
  /** Makes a system call with these arguments; answers with its result. */
  | { readonly act: 'call'; readonly number: number; readonly args: readonly number[] }
  /** Reads what V8 does when two threads want one of its locks. */
  | { readonly act: 'lock' }
  /** Keeps V8 busy; answers with a number. */
  | { readonly act: 'work'; readonly rounds: number }
  | { readonly act: 'throw'; readonly message: string }
  /** Reads from where nothing is. */
  | { readonly act: 'fault' }
  /** Looks at nothing any more. */
  | { readonly act: 'hang' }
  | { readonly act: 'end' };

const syscall = libc('long syscall(long n, long a, long b, long c, long d, long e, long f)');
const countProcessors = libc('int _ZN4absl13base_internal7NumCPUsEv()');
const clockRate = libc('double _ZN4absl13base_internal19NominalCPUFrequencyEv()');
const strlen = libc('int64_t strlen(const void *s)');

void runInJail(async (start) => {
  const { refuse, waits } = start.data as { readonly refuse?: string; readonly waits?: boolean };
  if (refuse !== undefined) throw new Error(refuse);
  if (waits === true) {
    const channel = start.fds[0] as number;
    sendJson(channel, 'preparing');
    receiveJson(channel, { wait: true });
  }
  // Declared, as everything is, before the process locks itself in.
  messageSocketPair();
  return () => serve(start);
});

function serve({ data, fds }: DeviceStart): void {
  const channel = fds[0] as number;
  for (;;) {
    const message = receiveJson(channel, { wait: true });
    if (!message) return;
    const request = message.value as Request;
    switch (request.act) {
      case 'start':
        sendJson(channel, { data, fds });
        break;
      case 'call': {
        const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = request.args;
        sendJson(channel, syscall(request.number, a, b, c, d, e, f));
        break;
      }
      case 'lock':
        countProcessors();
        clockRate();
        break;
      case 'work':
        sendJson(channel, work(request.rounds));
        break;
      case 'throw':
        throw new Error(request.message);
      case 'fault':
        strlen(1);
        break;
      case 'hang':
        for (;;);
      case 'end':
        return;
    }
  }
}

/** Makes V8 do what it does in the long run: collect garbage in both generations, compile (WebAssembly too), grow its heap. */
function work(rounds: number): number {
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    const loop = new Function(
      'x',
      `let y = ${round}; for (let i = 0; i < 20000; i++) y = (y * 31 + x + i) | 0; return y;`,
    );
    for (let i = 0; i < 20; i++) sum ^= loop(i) as number;
    const kept = Array.from({ length: 50_000 }, (_, i) => ({ i, text: `${i}` }));
    sum ^= JSON.stringify(kept.slice(0, 1000)).length;
    sum ^= new Uint8Array(4 << 20).fill(round)[round] as number;
    sum ^= new ArrayBuffer(100 << 20).byteLength;
    try {
      (undefined as unknown as string).trim();
    } catch (error) {
      sum ^= (error as Error).message.length;
    }
    sum ^= Number(BigInt.asIntN(31, 3n ** 1000n)) ^ (Math.random() > 2 ? 1 : 0) ^ (Date.now() > 0 ? 1 : 0);
    sum ^= answerOfWasm();
  }
  return sum;
}

function answerOfWasm(): number {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 100 });
  memory.grow(10);
  const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const sections = [1, 5, 1, 0x60, 0, 1, 0x7f, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0, 10, 6, 1, 4, 0, 0x41, 42, 0x0b];
  const instance = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from([...header, ...sections])));
  return (instance.exports.f as () => number)();
}
