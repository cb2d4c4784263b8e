/** Why an image cannot be used as asked: one line for people, with the image's path. */
export class DiskError extends Error {
  override readonly name: string = 'DiskError';
}

/** The image contradicts itself or its format. A guest's request that meets it fails; the monitor goes on. */
export class CorruptImageError extends DiskError {
  override readonly name = 'CorruptImageError';
}
