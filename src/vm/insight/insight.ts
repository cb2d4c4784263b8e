import { writeFileSync } from 'node:fs';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { ConfigError, type MachineConfig } from '../config.ts';
import type { Counts, InsightEnd, InsightMessage, InsightWishes, Samples } from './channel.ts';
import { cpuProfile } from './profile.ts';
import { describeCounts } from './report.ts';
import { findSymbols, type SymbolTable } from './symbols.ts';

/** What a machine is to tell of itself while it runs, as the main thread sees it. */
export class Insight {
  readonly #ports: readonly MessagePort[];
  readonly #ends: InsightEnd[];
  readonly #asked = new SharedArrayBuffer(4);
  readonly #log: (line: string) => void;
  readonly #profile: { readonly path: string; readonly symbols: SymbolTable } | undefined;
  readonly #samples: Samples[] = [];
  readonly #closed: Promise<unknown>;

  /** Undefined where nothing is to be told. `log` takes lines for the user. Throws ConfigError. */
  static of(config: MachineConfig, log: (line: string) => void): Insight | undefined {
    const wishes = {
      stats: config.stats,
      profile: config.profile !== undefined,
      checkTranslation: config.checkTranslation,
    };
    if (config.symbols !== undefined && config.profile === undefined) {
      throw new ConfigError('--symbols names the symbols of a profile: give --profile, too');
    }
    return Object.values(wishes).some(Boolean) ? new Insight(config, wishes, log) : undefined;
  }

  private constructor(config: MachineConfig, wishes: InsightWishes, log: (line: string) => void) {
    this.#log = log;
    if (config.profile !== undefined) {
      this.#profile = { path: config.profile, symbols: findSymbols(config.kernel, config.symbols) };
      writeProfile(config.profile, '');
    }
    const channels = Array.from({ length: config.cpus }, () => new MessageChannel());
    this.#ports = channels.map(({ port1 }) => port1);
    this.#ends = channels.map(({ port2 }) => ({ wishes, port: port2, asked: this.#asked }));
    this.#ports.forEach((port, vcpu) => {
      port.on('message', (message: InsightMessage) => this.#take(vcpu, message));
    });
    this.#closed = Promise.all(this.#ports.map((port) => new Promise((resolve) => port.once('close', resolve))));
    for (const port of this.#ports) port.unref();
  }

  /** For the vCPUs' threads, to be transferred. */
  get ends(): readonly InsightEnd[] {
    return this.#ends;
  }

  /** All vCPUs tell their statistics when they are kicked next. */
  ask(): void {
    Atomics.add(new Int32Array(this.#asked), 0, 1);
  }

  /** The vCPUs' threads have ended: takes what they sent last, and writes the profile. */
  async finish(): Promise<void> {
    await this.#closed;
    if (!this.#profile) return;
    const { path, symbols } = this.#profile;
    const text = JSON.stringify(cpuProfile(this.#samples, symbols));
    writeProfile(path, text);
  }

  #take(vcpu: number, message: InsightMessage): void {
    switch (message.kind) {
      case 'stats':
        this.#print(vcpu, message.counts);
        break;
      case 'samples':
        this.#samples[vcpu] = message.samples;
        break;
      case 'digest':
        this.#log(`registers and memory at the end: ${message.digest}`);
        break;
      case 'mismatch':
        this.#log(`vivarium: processor ${vcpu}: ${message.report}`);
        break;
    }
  }

  #print(vcpu: number, counts: Counts): void {
    for (const line of describeCounts(vcpu, counts)) this.#log(line);
  }
}

function writeProfile(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new ConfigError(`${path}: the profile cannot be written: ${(error as Error).message}`);
  }
}
