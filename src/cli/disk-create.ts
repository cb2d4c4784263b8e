import { Command, Option } from 'commander';
import { DiskError } from '../disk/error.ts';
import { backingOf, closeLayers, DISK_FORMATS, type DiskFormat, openLayers, resolveBacking } from '../disk/layers.ts';
import { type CreateOptions, createQcow2 } from '../disk/qcow2/create.ts';
import {
  COMPRESSION_TYPES,
  type CompressionType,
  MAX_CLUSTER_BITS,
  MAX_REFCOUNT_ORDER,
  MIN_CLUSTER_BITS,
} from '../disk/qcow2/format.ts';
import { makeFile, powerOfTwo, size, withPath } from './disk-work.ts';
import { asIs, once, oneOf } from './options.ts';

/** Options of a new image, as the parser gives them. */
export interface NewImageOptions {
  readonly clusterSize?: number;
  readonly refcountBits?: number;
  readonly compat?: '2' | '3';
  readonly compression?: CompressionType;
  readonly lazyRefcounts?: boolean;
}

interface DiskCreateOptions extends NewImageOptions {
  readonly format: DiskFormat;
  readonly backing?: string;
  readonly backingFormat?: DiskFormat;
}

/** Adds the options of new qcow2 images to a command. */
export function addNewImageOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--cluster-size <SIZE>', 'qcow2: bytes of a cluster (default: 64K)').argParser(
        once(powerOfTwo(MIN_CLUSTER_BITS, MAX_CLUSTER_BITS)),
      ),
    )
    .addOption(
      new Option('--refcount-bits <N>', 'qcow2: width of the reference counts (default: 16)').argParser(
        once(powerOfTwo(0, MAX_REFCOUNT_ORDER)),
      ),
    )
    .addOption(
      new Option('--compat <VERSION>', 'qcow2: version 2 or 3 (default: 3)').argParser(once(oneOf(['2', '3']))),
    )
    .addOption(
      new Option('--compression <NAME>', 'qcow2: what clusters may be compressed with (default: zlib)').argParser(
        once(oneOf(COMPRESSION_TYPES)),
      ),
    )
    .addOption(new Option('--lazy-refcounts', 'qcow2: let other programs put off reference counts'));
}

/** Options of the format from those of the command line. */
export function newImage(options: NewImageOptions): Omit<CreateOptions, 'size'> {
  const { clusterSize, refcountBits, compat, compression, lazyRefcounts } = options;
  return {
    version: compat === '2' ? 2 : 3,
    ...(clusterSize !== undefined && { clusterBits: clusterSize }),
    ...(refcountBits !== undefined && { refcountOrder: refcountBits }),
    ...(compression !== undefined && { compression }),
    ...(lazyRefcounts && { lazyRefcounts }),
  };
}

/** @throws DiskError if a raw image is asked for what only qcow2 has */
export function refuseForRaw(format: DiskFormat, options: object): void {
  if (format !== 'raw') return;
  const [name] = Object.keys(options);
  if (name === undefined) return;
  const option = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new DiskError(`--${option}: a raw image has no such thing`);
}

/** `vivarium disk create`. */
export function diskCreateCommand(): Command {
  const command = new Command('create')
    .description('Make an empty image')
    .argument('<PATH>', 'where to make it; nothing may be there')
    .argument('[SIZE]', 'size of the disk; may be left out over another image', size)
    .addOption(new Option('-f, --format <NAME>', 'raw or qcow2').default('qcow2').argParser(once(oneOf(DISK_FORMATS))))
    .addOption(
      new Option('-b, --backing <PATH>', 'image that lies under it, relative to its folder').argParser(once(asIs)),
    )
    .addOption(
      new Option('-F, --backing-format <NAME>', 'format of the image under it').argParser(once(oneOf(DISK_FORMATS))),
    );
  return addNewImageOptions(command).action(create);
}

async function create(path: string, bytes: number | undefined, options: DiskCreateOptions): Promise<void> {
  const { format, backing, backingFormat, ...rest } = options;
  refuseForRaw(format, {
    ...(backing !== undefined && { backing }),
    ...(backingFormat !== undefined && { backingFormat }),
    ...rest,
  });
  if (backing === undefined && backingFormat !== undefined) throw new DiskError('--backing-format: it needs --backing');
  if (backing !== undefined && backingFormat === undefined) throw new DiskError('--backing: it needs --backing-format');
  const below = backing === undefined ? undefined : await sizeOf(resolveBacking(path, backing), backingFormat!);
  const wanted = bytes ?? below;
  if (wanted === undefined) throw new DiskError(`${path}: give the size of the disk`);
  await makeFile(path, (file) => {
    if (format === 'raw') {
      file.truncate(wanted);
      return;
    }
    createQcow2(file, {
      size: wanted,
      ...newImage(rest),
      ...(backing !== undefined && { backing: { path: backing, format: backingFormat! } }),
    });
  });
}

/** Bytes of the disk in an image, which must be one. Throws DiskError. */
function sizeOf(path: string, format: DiskFormat): Promise<number> {
  return withPath(path, () => {
    const layers = openLayers(path, { format, writable: false });
    try {
      return backingOf(layers)!.size;
    } finally {
      closeLayers(layers);
    }
  });
}
