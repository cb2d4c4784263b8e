/** Runs the program as a user does, in a folder of its own. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** No run that ends by itself takes this long, however busy the machine, milliseconds. */
const LIMIT = 60_000;
const PROGRAM = fileURLToPath(new URL('../../bin/vivarium', import.meta.url));

export interface Result {
  /** Exit status; null: it had to be killed. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder for one test file's inputs, and runs of the program in it. */
export class Place {
  readonly folder = mkdtempSync(join(tmpdir(), 'vivarium-cli-'));

  /** Writes a file; returns its name, which is good as an argument. */
  file(name: string, bytes: Uint8Array | string): string {
    writeFileSync(join(this.folder, name), bytes);
    return name;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  get names(): string[] {
    return readdirSync(this.folder).sort();
  }

  /** Runs `vivarium ...args` without a terminal until it ends, for a minute at most. `uid`: as this user and group. */
  run(args: readonly string[], uid?: number, environment: Record<string, string> = {}): Promise<Result> {
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(uid !== undefined && { uid, gid: uid }),
      // An empty cache: a run that fetched the default guest would be seen.
      env: {
        PATH: process.env['PATH'],
        HOME: this.folder,
        XDG_CACHE_HOME: join(this.folder, 'cache'),
        ...environment,
      },
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT);
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => {
        clearTimeout(timer);
        resolve({ status, ...output });
      });
    });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
