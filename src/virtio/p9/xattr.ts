/** Extended attributes: a fid stands for one while its value is read or written. */
import type { Exchange } from '../../fs/exchange.ts';
import type { Node } from '../../fs/node.ts';
import type { FileServer } from '../../fs/server.ts';
import type { WireReader, WireWriter } from '../../fs/wire.ts';
import { EBADF, EINVAL, ERANGE, OsError } from '../../host/errno.ts';
import type { Fids, XattrTransfer } from './fids.ts';
import * as p9 from './protocol.ts';

/** What Linux lets a value have, bytes. */
const XATTR_SIZE_MAX = 65536;

/** Txattrwalk: a new fid for the value of a name, or without one for the list of names. */
export function walkXattr(server: FileServer, fids: Fids, message: WireReader, answer: WireWriter): void {
  const { place, uid } = fids.get(message.u32());
  const number = message.u32();
  const name = message.string();
  fids.requireFree(number);
  fids.requireXattrRoom();
  const value = name.length === 0 ? server.listXattrs(place.node) : server.getXattr(place.node, name);
  fids.setXattr(fids.set(number, fids.places.retain(place), uid), { value: Buffer.from(value) });
  answer.u64(BigInt(value.length));
}

/** Txattrcreate: the fid takes the value, which is set when it is clunked. */
export function createXattr(fids: Fids, message: WireReader): void {
  const fid = fids.get(message.u32());
  const name = Uint8Array.from(message.string());
  const size = message.u64();
  const flags = message.u32();
  fids.requireUnopened(fid);
  if (size > XATTR_SIZE_MAX) throw new OsError('xattr', ERANGE);
  fids.setXattr(fid, { value: Buffer.alloc(Number(size)), target: { name, flags, received: 0 } });
}

/** The body of Rread. */
export function readXattr(xattr: XattrTransfer, offset: number, count: number, answer: WireWriter): void {
  if (xattr.target !== undefined) throw new OsError('fid', EBADF);
  const part = xattr.value.subarray(offset, offset + count);
  answer.u32(part.length).bytes(part);
}

/** Takes some of the value; returns how many bytes. */
export function writeXattr(
  { value, target }: XattrTransfer,
  offset: number,
  count: number,
  exchange: Exchange,
): number {
  if (target === undefined) throw new OsError('fid', EBADF);
  if (offset !== target.received || offset + count > value.length) throw new OsError('xattr', EINVAL);
  exchange.read(value.subarray(offset, offset + count), p9.WRITE_HEADER_SIZE);
  target.received += count;
  return count;
}

/** At the fid's end. */
export function finishXattr(server: FileServer, node: Node, { value, target }: XattrTransfer): void {
  if (target === undefined) return;
  if (target.received !== value.length) throw new OsError('xattr', EINVAL);
  // Linux's client has no other message to remove one.
  if (value.length === 0 && target.flags === p9.XATTR_REPLACE) server.removeXattr(node, target.name);
  else server.setXattr(node, target.name, value, target.flags);
}
