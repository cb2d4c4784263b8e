// One guest that runs the set: started, followed by the lines it says, asked to go on or to end.

import { type ChildProcess, spawn } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { cpuTime } from './process-files.ts';

/** One run of a member. */
export interface MemberRun {
  readonly name: string;
  /** Wall-clock time, in milliseconds. */
  readonly wall: number;
  /** Processor time of the machine's process and all its threads, in milliseconds (to 10). */
  readonly cpu: number;
  /** Checksum of what it wrote. */
  readonly checksum: string;
}

/** A member that takes longer than this has failed, in milliseconds; so has a boot. */
const TIMEOUT = 600_000;
/** What the kernel says when something is wrong with the machine. */
const COMPLAINT = /Kernel panic|Oops|BUG:|WARNING:|soft lockup|Call Trace|segfault|trap /;

export class GuestSession {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #end: Promise<number | null>;
  #rest = '';
  #errors = '';
  #lines: { text: string; at: number; cpu: number }[] = [];
  #wake: () => void = () => {};
  /** The last lines, for messages. */
  #seen: string[] = [];
  #closed = false;

  /** `environment`: what the machine finds in its environment beside what this process has. */
  constructor(
    name: string,
    command: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ) {
    this.name = name;
    this.#child = spawn(command, args, { stdio: 'pipe', env: { ...process.env, ...environment } });
    this.#child.stdin?.on('error', () => {});
    this.#child.stdout?.setEncoding('latin1').on('data', (text: string) => this.#take(text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-4096);
    });
    this.#end = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (status) => {
        this.#closed = true;
        resolve(status);
        this.#wake();
      });
    });
    this.#end.catch(() => {});
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /**
   * Follows the guest to the end of the set, from its start or after `again`.
   * @throws Error if a member fails or the kernel complains
   */
  async set(): Promise<MemberRun[]> {
    const runs: MemberRun[] = [];
    for (;;) {
      const begin = await this.#line(/^@(begin (\S+)|done)$/);
      if (begin.text === '@done') return runs;
      const name = begin.text.slice('@begin '.length);
      const end = await this.#line(/^@end /);
      const [, ended, status, checksum] = end.text.split(' ');
      if (ended !== name || status !== '0') throw this.#failure(`${name} ended with status ${status}`);
      runs.push({ name, wall: end.at - begin.at, cpu: end.cpu - begin.cpu, checksum: checksum as string });
    }
  }

  /** Starts the set anew. */
  again(): void {
    this.#child.stdin?.write('again\n');
  }

  /** Powers the guest off, and waits for the process. */
  async powerOff(): Promise<void> {
    this.#child.stdin?.write('off\n');
    const status = await this.#end;
    if (status !== 0) throw this.#failure(`the run ended with status ${status}`);
  }

  kill(): void {
    if (this.#child.exitCode === null) this.#child.kill('SIGKILL');
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split(/\r*\n/);
    this.#rest = lines.pop() as string;
    const at = performance.now();
    const cpu = cpuTime(this.pid);
    for (const line of lines) this.#lines.push({ text: line, at, cpu });
    this.#wake();
  }

  async #line(wanted: RegExp): Promise<{ text: string; at: number; cpu: number }> {
    const deadline = performance.now() + TIMEOUT;
    for (;;) {
      for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
        this.#seen = [...this.#seen.slice(-15), line.text];
        if (COMPLAINT.test(line.text)) throw this.#failure('the kernel complains');
        if (wanted.test(line.text)) return line;
      }
      if (this.#closed) throw this.#failure('the run ended');
      if (performance.now() > deadline) throw this.#failure('nothing more came');
      const late = setTimeout(() => this.#wake(), 1000);
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), this.#end]);
      clearTimeout(late);
    }
  }

  #failure(what: string): Error {
    return new Error(`${this.name}: ${what}\n${this.#seen.join('\n')}\n${this.#errors}`);
  }
}
