/** The control requests of crosvm (2018), as datagrams: 32 bytes to the machine, 48 back. Little-endian. */
import { EINVAL, ENODEV, EOPNOTSUPP } from '../host/errno.ts';
import { adjustedTarget } from './balloon.ts';
import type { ControlledMachine } from './machine.ts';

/** Bytes. */
export const REQUEST_SIZE = 32;
const RESPONSE_SIZE = 48;
const PAGE = 4096;

/** `type`, the first word of a request. */
const EXIT = 1;
const REGISTER_MEMORY = 2;
const UNREGISTER_MEMORY = 3;
const BALLOON_ADJUST = 4;
const ALLOCATE_AND_REGISTER_GPU_MEMORY = 5;
const NUM_PAGES = 16;

/** `type` of a response. */
const OK = 1;
const ERR = 2;

/** What came is no request, and is not answered, as crosvm does not. `message` is a line for a log. */
export class BadRequest extends Error {
  override readonly name = 'BadRequest';
}

/** Does what a datagram asks; returns the response. Throws BadRequest. */
export async function serveRequest(machine: ControlledMachine, bytes: Buffer, length: number): Promise<Buffer> {
  if (length !== REQUEST_SIZE) throw new BadRequest(`a request of ${length} bytes instead of ${REQUEST_SIZE}`);
  const type = bytes.readUInt32LE(0);
  switch (type) {
    case EXIT:
      machine.exit();
      return response(OK, 0);
    case BALLOON_ADJUST:
      return adjustBalloon(machine, bytes.readInt32LE(NUM_PAGES));
    case ALLOCATE_AND_REGISTER_GPU_MEMORY:
      return response(ERR, ENODEV);
    // The descriptor that comes with it has been closed unseen.
    case REGISTER_MEMORY:
      return response(ERR, EOPNOTSUPP);
    // No memory was registered.
    case UNREGISTER_MEMORY:
      return response(ERR, EINVAL);
    default:
      throw new BadRequest(`a request of the unknown type ${type}`);
  }
}

async function adjustBalloon({ balloon }: ControlledMachine, pages: number): Promise<Buffer> {
  if (balloon === undefined) return response(ERR, ENODEV);
  try {
    await balloon.setTarget(adjustedTarget(balloon, pages * PAGE));
    return response(OK, 0);
  } catch {
    return response(ERR, EINVAL);
  }
}

function response(type: number, errno: number): Buffer {
  const bytes = Buffer.alloc(RESPONSE_SIZE);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(errno, 4);
  return bytes;
}
