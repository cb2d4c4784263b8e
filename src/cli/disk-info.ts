import { fstatSync } from 'node:fs';
import { Command, Option } from 'commander';
import { ImageFile } from '../disk/image-file.ts';
import { closeLayers, type DiskFormat, openLayers } from '../disk/layers.ts';
import { COMPATIBLE_LAZY_REFCOUNTS, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY } from '../disk/qcow2/format.ts';
import { readHeader } from '../disk/qcow2/open.ts';
import { readSnapshots } from '../disk/qcow2/snapshot-table.ts';
import { describeSize, formatOption, withPath } from './disk-work.ts';

/** Bytes of the unit of a file's space. */
const STAT_BLOCK = 512;

/** What is known of an image; also the form of `--json`. */
interface DiskInfo {
  readonly path: string;
  readonly format: DiskFormat;
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes of the file's space. */
  readonly diskSize: number;
  readonly qcow2?: {
    readonly version: number;
    readonly clusterSize: number;
    readonly refcountBits: number;
    readonly compression: string;
    readonly lazyRefcounts: boolean;
    readonly dirty: boolean;
    readonly corrupt: boolean;
    readonly snapshots: readonly string[];
    readonly backingFile?: string;
    readonly backingFormat?: string;
  };
}

/** `vivarium disk info`. */
export function diskInfoCommand(): Command {
  return new Command('info')
    .description('Say what an image is')
    .argument('<PATH>', 'path of the image')
    .addOption(formatOption())
    .addOption(new Option('--json', 'print JSON'))
    .action(async (path: string, options: { readonly format?: DiskFormat; readonly json?: boolean }) => {
      const info = await withPath(path, () => inspect(path, options.format));
      process.stdout.write(options.json ? `${JSON.stringify(info, undefined, 2)}\n` : describe(info));
    });
}

/** Throws DiskError, OsError. */
function inspect(path: string, format: DiskFormat | undefined): DiskInfo {
  const layers = openLayers(path, { format, writable: false, alone: true });
  try {
    const { fd, format: found } = layers[0]!;
    const file = new ImageFile(fd, path);
    const diskSize = fstatSync(fd).blocks * STAT_BLOCK;
    if (found === 'raw') return { path, format: found, virtualSize: file.size, diskSize };
    const header = readHeader(file);
    return {
      path,
      format: found,
      virtualSize: header.size,
      diskSize,
      qcow2: {
        version: header.version,
        clusterSize: 2 ** header.clusterBits,
        refcountBits: 2 ** header.refcountOrder,
        compression: header.compression,
        lazyRefcounts: (header.compatible & COMPATIBLE_LAZY_REFCOUNTS) !== 0n,
        dirty: (header.incompatible & INCOMPATIBLE_DIRTY) !== 0n,
        corrupt: (header.incompatible & INCOMPATIBLE_CORRUPT) !== 0n,
        snapshots: readSnapshots(file, header).snapshots.map(({ name }) => name),
        ...(header.backingFile !== undefined && { backingFile: header.backingFile }),
        ...(header.backingFormat !== undefined && { backingFormat: header.backingFormat }),
      },
    };
  } finally {
    closeLayers(layers);
  }
}

function describe({ path, format, virtualSize, diskSize, qcow2 }: DiskInfo): string {
  const lines: (readonly [name: string, value: string])[] = [
    ['image', path],
    ['format', qcow2 === undefined ? format : `${format} version ${qcow2.version}`],
    ['virtual size', `${describeSize(virtualSize)} (${virtualSize} bytes)`],
    ['space used', `${diskSize} bytes`],
  ];
  if (qcow2 !== undefined) {
    lines.push(['cluster size', describeSize(qcow2.clusterSize)], ['refcount bits', String(qcow2.refcountBits)]);
    lines.push(['compression', qcow2.compression]);
    if (qcow2.backingFile !== undefined) {
      lines.push(['backing file', `${qcow2.backingFile} (${qcow2.backingFormat ?? 'format not said'})`]);
    }
    if (qcow2.snapshots.length > 0) lines.push(['snapshots', qcow2.snapshots.join(', ')]);
    const flags = [
      qcow2.lazyRefcounts && 'lazy refcounts',
      qcow2.dirty && 'not closed: it is repaired when it is opened for writing',
      qcow2.corrupt && 'corrupt: repair it with disk check --repair',
    ].filter((flag) => flag !== false);
    if (flags.length > 0) lines.push(['state', flags.join('; ')]);
  }
  return lines.map(([name, value]) => `${`${name}:`.padEnd(15)}${printable(value)}\n`).join('');
}

/** Text that cannot steer a terminal: names in an image may hold anything. */
function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}
