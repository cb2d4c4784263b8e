import { EINTR, errnoName, errnoText, OsError } from '../../host/errno.ts';
import { ioctl, type Request } from '../../host/ioctl.ts';

/** An ioctl of KVM that failed. The message is one line for the user. */
export class KvmError extends OsError {
  constructor(what: string, request: Request, errno: number) {
    super(request.name, errno);
    this.message = `KVM: ${what}: ${errnoText(errno)} (${request.name}: ${errnoName(errno)})`;
  }
}

/**
 * An ioctl's result. `what` says what cannot be done when it fails: "the machine cannot be made". Interrupted calls are
 * repeated. Throws KvmError.
 */
export function call(
  what: string,
  fd: number,
  request: Request,
  argument: number | NodeJS.ArrayBufferView = 0,
): number {
  for (;;) {
    const result = ioctl(fd, request.number, argument);
    if (result >= 0) return result;
    if (result !== -EINTR) throw new KvmError(what, request, -result);
  }
}
