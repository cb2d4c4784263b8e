/** As whom this thread makes files: setfsuid(2), capset(2). */
import { EPERM, OsError } from './errno.ts';
import { check, libc } from './ffi.ts';

/** _LINUX_CAPABILITY_VERSION_3, and this thread. */
const CAP_HEADER = Uint32Array.of(0x2008_0522, 0);
/** Effective, permitted, inheritable: twice 32 bits. */
const CAP_DATA_SIZE = 6;
const NO_ID = 0xffff_ffff;

const setfsuid = libc('unsigned int setfsuid(unsigned int uid)');
const setfsgid = libc('unsigned int setfsgid(unsigned int gid)');
const capget = libc('int capget(const void *header, void *data)');
const capset = libc('int capset(const void *header, const void *data)');

/** setfsuid() and setfsgid() never fail: they tell what it was before, and an id that cannot be is how to ask. */
const isNow = (set: typeof setfsuid, id: number): boolean => set(NO_ID) >>> 0 === id >>> 0;

/** Makes files for others, where this thread has root's rights. One for a thread. */
export class FileCredentials {
  /** Can it? In a user namespace of one user it cannot, root or not. */
  readonly able: boolean;
  readonly #capabilities = new Uint32Array(CAP_DATA_SIZE);

  constructor() {
    check('capget', capget(CAP_HEADER, this.#capabilities));
    this.able = process.geteuid?.() === 0 && this.#probe();
  }

  #probe(): boolean {
    try {
      return this.as(1, 1, () => true);
    } catch (error) {
      if (error instanceof OsError) return false;
      throw error;
    }
  }

  /** Runs `body`, and what it makes belongs to this user and group. Throws OsError EPERM for ids that are not there. */
  as<T>(uid: number, gid: number, body: () => T): T {
    try {
      setfsgid(gid);
      if (!isNow(setfsgid, gid)) throw new OsError('setfsgid', EPERM);
      if (uid !== 0) {
        setfsuid(uid);
        if (!isNow(setfsuid, uid)) throw new OsError('setfsuid', EPERM);
        // Leaving root, the thread lost the rights over other users' files. The guest's kernel has checked its user's rights,
        // which may come from groups that are not known here.
        check('capset', capset(CAP_HEADER, this.#capabilities));
      }
      return body();
    } finally {
      if (uid !== 0) setfsuid(0);
      setfsgid(0);
    }
  }
}
