import { DiskError } from '../../disk/error.ts';
import { closeLayers, type DiskFormat, type Layer, openLayers } from '../../disk/layers.ts';
import { openOverlay } from '../../disk/overlay.ts';
import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_BLOCK } from '../constants.ts';
import * as B from './constants.ts';
import { blockSizeOf, sizeOf } from './disk.ts';

/** A disk as the user asks for it. */
export interface DiskConfig {
  readonly path: string;
  readonly format: DiskFormat;
  /** May the guest write to it? */
  readonly writable: boolean;
  /** The guest may write, and the image stays as it is: changes go when the machine ends. */
  readonly overlay?: boolean | undefined;
  /** Past the host's page cache (O_DIRECT). Raw images only. */
  readonly direct?: boolean | undefined;
  /** Up to 20 bytes of ASCII that the guest sees as the disk's serial number. */
  readonly serial?: string | undefined;
}

/** What the back end starts from. */
export interface BlockParams {
  readonly layers: readonly Omit<Layer, 'fd'>[];
  readonly writable: boolean;
  readonly serial: string;
}

/** Sectors of one discard or write zeroes range: no limit but the field's. */
const MAX_RANGE_SECTORS = 0xffff_ffff;
/** 64 KiB: what images are made of. */
const DISCARD_ALIGNMENT = 128;

/** Opens and locks a disk. `queues`: one for each vCPU is best. Throws DiskError, OsError. */
export function blockModel(config: DiskConfig, queues: number): DeviceModel {
  const { path, format, serial = '', direct = false } = config;
  const writable = config.writable || config.overlay === true;
  const layers = config.overlay
    ? openOverlay(path, format)
    : openLayers(path, { format, writable: config.writable, direct });
  const top = layers[0] as Layer;
  try {
    const params: BlockParams = { layers: layers.map(({ fd: _, ...layer }) => layer), writable, serial };
    const size = sizeOf(top);
    if (size < B.SECTOR)
      throw new DiskError(`${path}: it is too small for a disk, which has ${B.SECTOR} bytes at least`);
    const blockSize = direct ? blockSizeOf(top) : B.SECTOR;
    return {
      device: 'block',
      label: `disk ${path}`,
      type: ID_BLOCK,
      queueSizes: Array.from({ length: queues }, () => B.QUEUE_SIZE),
      features: COMMON_FEATURES | featuresOf(writable, queues),
      config: configOf(size, blockSize, queues),
      writableConfig: writable ? [[B.CONFIG_WRITEBACK, 1]] : [],
      params: params as unknown as DeviceModel['params'],
      fds: layers.map(({ fd }) => fd),
    };
  } catch (error) {
    closeLayers(layers);
    throw error;
  }
}

function featuresOf(writable: boolean, queues: number): bigint {
  return features(
    B.VIRTIO_BLK_F_SEG_MAX,
    B.VIRTIO_BLK_F_BLK_SIZE,
    B.VIRTIO_BLK_F_FLUSH,
    B.VIRTIO_BLK_F_TOPOLOGY,
    ...(queues > 1 ? [B.VIRTIO_BLK_F_MQ] : []),
    ...(writable
      ? [B.VIRTIO_BLK_F_CONFIG_WCE, B.VIRTIO_BLK_F_DISCARD, B.VIRTIO_BLK_F_WRITE_ZEROES]
      : [B.VIRTIO_BLK_F_RO]),
  );
}

function configOf(size: number, blockSize: number, queues: number): Uint8Array {
  const config = new DataView(new ArrayBuffer(B.CONFIG_SIZE));
  config.setBigUint64(B.CONFIG_CAPACITY, BigInt(Math.floor(size / B.SECTOR)), true);
  config.setUint32(B.CONFIG_SEG_MAX, B.QUEUE_SIZE - 2, true);
  config.setUint32(B.CONFIG_BLK_SIZE, blockSize, true);
  // Pages of 4 KiB are what the host writes without reading.
  config.setUint8(B.CONFIG_PHYSICAL_BLOCK_EXP, Math.log2(4096 / blockSize));
  config.setUint16(B.CONFIG_MIN_IO_SIZE, 4096 / blockSize, true);
  config.setUint32(B.CONFIG_OPT_IO_SIZE, 0, true);
  config.setUint8(B.CONFIG_WRITEBACK, 1);
  config.setUint16(B.CONFIG_NUM_QUEUES, queues, true);
  config.setUint32(B.CONFIG_MAX_DISCARD_SECTORS, MAX_RANGE_SECTORS, true);
  config.setUint32(B.CONFIG_MAX_DISCARD_SEG, B.MAX_SEGMENTS, true);
  config.setUint32(B.CONFIG_DISCARD_SECTOR_ALIGNMENT, DISCARD_ALIGNMENT, true);
  config.setUint32(B.CONFIG_MAX_WRITE_ZEROES_SECTORS, MAX_RANGE_SECTORS, true);
  config.setUint32(B.CONFIG_MAX_WRITE_ZEROES_SEG, B.MAX_SEGMENTS, true);
  config.setUint8(B.CONFIG_WRITE_ZEROES_MAY_UNMAP, 1);
  return new Uint8Array(config.buffer);
}
