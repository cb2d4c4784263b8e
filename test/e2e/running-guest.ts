/** A guest that a test runs as a user does, and talks to through the console. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const PROGRAM = fileURLToPath(new URL('../../bin/vivarium', import.meta.url));

/** What a healthy kernel never says. */
const COMPLAINTS =
  /WARNING: |\bBUG\b|Oops|soft lockup|Call Trace|general protection fault|segfault|Kernel panic|unchecked MSR/;

/** A boot on a machine whose cores are all busy, milliseconds. */
export const LONG = 120_000;

export interface End {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class RunningGuest {
  readonly child: ChildProcess;
  /** All that came out: standard output, then also standard error. */
  output = '';
  errors = '';
  readonly #end: Promise<End>;
  #seen = 0;
  #wake: () => void = () => {};

  /** Runs `command` with a pipe for standard input. */
  constructor(command: string, args: readonly string[], environment: Record<string, string> = {}) {
    this.child = spawn(command, args, { stdio: 'pipe', env: { ...process.env, ...environment } });
    this.child.stdin?.on('error', () => {});
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
      this.#wake();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    this.#end = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (status, signal) => {
        resolve({ status, signal });
        this.#wake();
      });
    });
  }

  /** `vivarium run ...args`, on the built-in processor. */
  static run(...args: readonly string[]): RunningGuest {
    return RunningGuest.on('soft', ...args);
  }

  /** The same on a hypervisor of this name. */
  static on(hypervisor: string, ...args: readonly string[]): RunningGuest {
    return RunningGuest.#with({}, hypervisor, args);
  }

  /** run(), where what earlier runs have translated is in `cache` and nowhere else. */
  static runWith(cache: string, ...args: readonly string[]): RunningGuest {
    return RunningGuest.#with({ XDG_CACHE_HOME: cache }, 'soft', args);
  }

  static #with(environment: Record<string, string>, hypervisor: string, args: readonly string[]): RunningGuest {
    return new RunningGuest(process.execPath, [PROGRAM, 'run', '--hypervisor', hypervisor, ...args], environment);
  }

  /** Waits for a text after what was waited for before, `patience` milliseconds at most. Returns what came before it. */
  async expect(text: string | RegExp, patience = LONG): Promise<string> {
    const deadline = Date.now() + patience;
    for (;;) {
      const rest = this.output.slice(this.#seen);
      const found = typeof text === 'string' ? rest.indexOf(text) : rest.search(text);
      if (found >= 0) {
        const length = typeof text === 'string' ? text.length : (text.exec(rest) as RegExpExecArray)[0].length;
        this.#seen += found + length;
        return rest.slice(0, found);
      }
      const ended = this.child.exitCode !== null || this.child.signalCode !== null;
      if (ended || Date.now() > deadline) {
        const why = ended ? 'the run ended' : 'nothing more came';
        throw new Error(`${why} before ${text}:\n${this.output.slice(-3000)}\n${this.errors.slice(-1000)}`);
      }
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), sleep(1000)]);
    }
  }

  send(text: string): void {
    this.child.stdin?.write(text);
  }

  /** Runs a command in the guest's shell; returns what it printed. The shell is at its prompt before and after. */
  async command(line: string): Promise<string> {
    // The marks are not in the line as it is typed, which the terminal echoes.
    this.send(`echo BEG''IN; ${line}; echo "END""$?"\n`);
    await this.expect('BEGIN\r\n');
    const text = await this.expect(/END\d+\r\n/);
    await this.expect('# ');
    return text.replaceAll('\r', '');
  }

  /** Waits for the default guest's shell. */
  async shell(patience = LONG): Promise<void> {
    await this.expect(/:~# /, patience);
  }

  /** Waits for the end; throws when it does not come. */
  async end(): Promise<End> {
    const late = sleep(LONG, undefined, { ref: false }).then(() => {
      throw new Error(`the run does not end:\n${this.output.slice(-3000)}\n${this.errors}`);
    });
    return Promise.race([this.#end, late]);
  }

  /** Lines of a kernel's log that tell of a fault. */
  get complaints(): string[] {
    return this.output.split('\n').filter((line) => COMPLAINTS.test(line));
  }

  /** Ends it, whatever it does. */
  async kill(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.#end;
  }
}
