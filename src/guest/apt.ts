/**
 * Fetches packages of Debian's amd64 archive by the host's apt, with the host's sources and keys, and without changing
 * the host: needs no root, installs nothing, adds no architecture.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GuestError, WITHOUT_DEFAULT_GUEST } from './error.ts';
import type { ToolOptions, ToolOutput } from './tools.ts';
import { runTool, STATUS_FD } from './tools.ts';

/** A package as the archive's signed index describes it. */
export interface Package {
  readonly name: string;
  readonly version: string;
  /** The file's name as apt-get stores it. */
  readonly file: string;
  /** In bytes. */
  readonly size: number;
  /** In bytes, as the packager estimated. */
  readonly installedSize: number;
  /** In lower-case hexadecimal digits. */
  readonly sha256: string;
}

/** Debian's packages that depend on its newest kernel: for virtual machines, and for all. */
export type KernelMetaPackage = 'linux-image-cloud-amd64' | 'linux-image-amd64';
/** Of the package debian-archive-keyring, which every Debian has. */
const DEBIAN_KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
const BUSYBOX_PACKAGE = 'busybox-static';
/** Room for Debian's package lists, packed and as they arrive, in bytes: three times what those of Debian 12 take. */
const LISTS_BYTES = 64 * 1024 * 1024;

/** What a fetch needs beside apt. */
export interface FetchOptions {
  /** Lists of its own, where they are needed, are below this folder. */
  readonly folder: string;
  /** How far these lists have come, in fractions of 1. */
  readonly progress: (fraction: number) => void;
  /** Throws where there is no room for so many bytes. */
  readonly makeRoom: (bytes: number) => Promise<void>;
  readonly tool: ToolOptions;
}

/** apt with a choice of lists: the host's, or some of its own below `folder`, which a host without lists needs. */
export class Apt {
  readonly #options: readonly string[];
  readonly #tool: ToolOptions;
  /** Why the lists may lack a package. */
  #listWarning: string | undefined;

  private constructor(options: readonly string[], tool: ToolOptions) {
    this.#options = [
      ...['APT::Architecture=amd64', 'APT::Architectures::=amd64'],
      // As root apt would fetch as a user who cannot write to our folder, and warn.
      'APT::Sandbox::User=root',
      `APT::Status-Fd=${STATUS_FD}`,
      ...options,
    ].flatMap((option) => ['-o', option]);
    this.#tool = tool;
  }

  /**
   * Does `fetch` with the host's lists. They may be missing, lack a package, or be so old that its file is gone: then once more, with lists
   * of its own.
   */
  static async fetch<T>(options: FetchOptions, fetch: (apt: Apt) => Promise<T>): Promise<T> {
    const { folder, progress, makeRoom, tool } = options;
    progress(0);
    try {
      return await fetch(new Apt([], tool));
    } catch (error) {
      tool.signal?.throwIfAborted();
      if (!(error instanceof GuestError)) throw error;
      await makeRoom(LISTS_BYTES);
      return fetch(await Apt.#withOwnLists(folder, progress, tool));
    }
  }

  /** Brings the lists up to date. */
  static async #withOwnLists(folder: string, progress: (fraction: number) => void, tool: ToolOptions): Promise<Apt> {
    await mkdir(join(folder, 'state/lists/partial'), { recursive: true });
    await mkdir(join(folder, 'cache/archives/partial'), { recursive: true });
    const state = [
      `Dir::State=${join(folder, 'state')}`,
      `Dir::State::lists=${join(folder, 'state/lists')}`,
      'Dir::State::status=/dev/null',
      `Dir::Cache=${join(folder, 'cache')}`,
      `Dir::Cache::archives=${join(folder, 'cache/archives')}`,
    ];
    const apt = new Apt(state, tool);
    const { errors } = await apt.#run('apt-get', ['update'], { status: downloadStatus(progress) });
    // A source that cannot be reached is a warning only: the package may be in another.
    apt.#listWarning = /^W: (Failed to fetch .*)$/m.exec(errors)?.[1];
    return apt;
  }

  /**
   * The newest kernel of a kind, and busybox.
   * @throws GuestError if the lists lack them
   */
  async resolve(
    metaPackage: KernelMetaPackage = 'linux-image-cloud-amd64',
  ): Promise<{ kernel: Package; busybox: Package }> {
    const [meta] = await this.#show([metaPackage]);
    const image = /\b(linux-image-\d[a-z0-9.+-]+-amd64)\b/.exec(meta?.get('Depends') ?? '')?.[1];
    if (image === undefined) throw new GuestError(`apt: ${metaPackage} depends on no kernel`);
    const [kernel, busybox] = await this.describe([image, BUSYBOX_PACKAGE]);
    return { kernel: kernel as Package, busybox: busybox as Package };
  }

  /**
   * Lines of a sources.list(5) with the Debian archives that the lists are of.
   * @throws GuestError if there is none
   */
  async debianSources(): Promise<string[]> {
    const format = '$(REPO_URI) $(CODENAME) $(COMPONENT)';
    const filter = ['Created-By: Packages', 'Origin: Debian'];
    const { output } = await this.#run('apt-get', ['indextargets', '--format', format, ...filter], {});
    const lines = new Set(output.split('\n').filter((line) => line.endsWith(' main')));
    if (lines.size === 0) throw new GuestError(`apt: this system's sources have no Debian; ${WITHOUT_DEFAULT_GUEST}`);
    return [...lines].map((line) => `deb [signed-by=${DEBIAN_KEYS}] ${line}`);
  }

  /**
   * Downloads all that an installation of packages into nothing needs, apt's patterns among them, into `folder`; goes on where an
   * earlier download was cut off.
   */
  async downloadSystem(names: readonly string[], folder: string, progress: (fraction: number) => void): Promise<void> {
    await mkdir(join(folder, 'partial'), { recursive: true });
    const options = ['Dir::State::status=/dev/null', `Dir::Cache::archives=${folder}`].flatMap((option) => [
      '-o',
      option,
    ]);
    const install = ['install', '--download-only', '--yes', '--no-install-recommends'];
    await this.#run('apt-get', [...options, ...install, ...names], { status: downloadStatus(progress) });
  }

  /** Downloads into `folder`, or goes on where an earlier download was cut off. `progress` gets fractions of 1. */
  async download(packages: readonly Package[], folder: string, progress: (fraction: number) => void): Promise<void> {
    const names = packages.map(({ name, version }) => `${name}=${version}`);
    await this.#run('apt-get', ['download', ...names], { cwd: folder, status: downloadStatus(progress) });
  }

  /**
   * Packages by their names, in the same order.
   * @throws GuestError if the lists lack one
   */
  async describe(names: readonly string[]): Promise<Package[]> {
    const stanzas = await this.#show(names);
    const versions = names.map((name, index) => `${name}=${stanzas[index]?.get('Version')}`);
    const { output } = await this.#run('apt-get', ['download', '--print-uris', ...versions], {});
    const files = [...output.matchAll(/^'[^']+' ([a-zA-Z0-9.+~%_-]+\.deb) /gm)].map((match) => match[1]);
    return names.map((name, index) => {
      const fields = stanzas[index];
      const version = fields?.get('Version') ?? '';
      const sha256 = fields?.get('SHA256') ?? '';
      const size = Number(fields?.get('Size'));
      const installedSize = Number(fields?.get('Installed-Size') ?? '0') * 1024;
      const file = files.find((other) => other?.startsWith(`${name}_`));
      if (file === undefined || !/^[0-9a-f]{64}$/.test(sha256) || !Number.isSafeInteger(size + installedSize)) {
        throw new GuestError(`apt: the lists describe ${name} incompletely`);
      }
      return { name, version, file, size, installedSize, sha256 };
    });
  }

  /** The fields of each package's newest version, in the order of `names`. */
  async #show(names: readonly string[]): Promise<Map<string, string>[]> {
    const { output } = await this.#run('apt-cache', ['show', '--no-all-versions', ...names], { mayFail: true });
    const stanzas = output.split('\n\n').map((stanza) => {
      return new Map([...stanza.matchAll(/^([\w-]+): (.*)$/gm)].map((match) => [match[1] ?? '', match[2] ?? '']));
    });
    return names.map((name) => {
      const found = stanzas.find((fields) => fields.get('Package') === name);
      if (found !== undefined) return found;
      const reason = this.#listWarning ?? `no package ${name} in this system's sources`;
      throw new GuestError(`apt: ${reason}; ${WITHOUT_DEFAULT_GUEST}`);
    });
  }

  #run(command: string, args: readonly string[], options: Partial<ToolOptions>): Promise<ToolOutput> {
    return runTool(command, ['-q', ...this.#options, ...args], { ...this.#tool, ...options });
  }
}

/** Reads "dlstatus:ITEM:PERCENT:TEXT" (apt, README.progress-reporting). */
export function downloadStatus(progress: (fraction: number) => void): (line: string) => void {
  return (line) => {
    const percent = Number(/^dlstatus:\d+:(\d+(?:\.\d+)?):/.exec(line)?.[1] ?? Number.NaN);
    if (percent <= 100) progress(percent / 100);
  };
}
