/** What a client's numbers stand for. */
import type { OpenFile } from '../../fs/open-file.ts';
import type { FileServer } from '../../fs/server.ts';
import { EBADF, EINVAL, ENFILE, OsError } from '../../host/errno.ts';
import { type Place, Places } from './place.ts';

const MAX_FIDS = 65536;
/** Fids that hold an extended attribute's value, which may be 64 KiB each. */
const MAX_XATTR_FIDS = 64;

/** An extended attribute on its way to the client, or from it. */
export interface XattrTransfer {
  readonly value: Buffer;
  /** For one that is set: its name and flags, and how much of its value has come. */
  readonly target?: { readonly name: Uint8Array; readonly flags: number; received: number };
}

export interface Fid {
  place: Place;
  /** The guest's user who works by it. */
  readonly uid: number;
  file?: OpenFile;
  xattr?: XattrTransfer;
}

export class Fids {
  readonly places: Places;
  readonly #server: FileServer;
  readonly #fids = new Map<number, Fid>();
  #xattrs = 0;

  constructor(server: FileServer) {
    this.#server = server;
    this.places = new Places(server);
  }

  /** Throws OsError EBADF. */
  get(number: number): Fid {
    const fid = this.#fids.get(number);
    if (fid === undefined) throw new OsError('fid', EBADF);
    return fid;
  }

  /** A fid whose number the client may use for something new. Throws OsError. */
  requireFree(number: number): void {
    if (this.#fids.has(number)) throw new OsError('fid', EINVAL);
    if (this.#fids.size >= MAX_FIDS) throw new OsError('fid', ENFILE);
  }

  /** The reference to the place goes to the fid. */
  set(number: number, place: Place, uid: number): Fid {
    const fid = { place, uid };
    this.#fids.set(number, fid);
    return fid;
  }

  /** The fid is somewhere else now. The reference to the place goes to the fid. */
  move(fid: Fid, place: Place): void {
    this.places.release(fid.place);
    fid.place = place;
  }

  /** Throws OsError when it is open, or is an attribute. */
  requireUnopened(fid: Fid): void {
    if (fid.file !== undefined || fid.xattr !== undefined) throw new OsError('fid', EBADF);
  }

  /** Throws OsError EBADF. */
  opened(number: number): OpenFile {
    const { file } = this.get(number);
    if (file === undefined) throw new OsError('fid', EBADF);
    return file;
  }

  /** Makes the fid an attribute's. Throws OsError when there are too many. */
  setXattr(fid: Fid, xattr: XattrTransfer): void {
    this.requireXattrRoom();
    fid.xattr = xattr;
    this.#xattrs++;
  }

  requireXattrRoom(): void {
    if (this.#xattrs >= MAX_XATTR_FIDS) throw new OsError('xattr', ENFILE);
  }

  /** Gives up what the fid has. */
  remove(number: number): Fid {
    const fid = this.get(number);
    this.#fids.delete(number);
    if (fid.xattr !== undefined) this.#xattrs--;
    if (fid.file !== undefined) this.#server.close(fid.file);
    this.places.release(fid.place);
    return fid;
  }

  clear(): void {
    for (const number of [...this.#fids.keys()]) this.remove(number);
  }
}
