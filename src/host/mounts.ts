/** The root of a process's own mount namespace: pivot_root(2), umount2(2). */
import { check, libc } from './ffi.ts';

const SYS_pivot_root = { x64: 155, arm64: 41 } as Readonly<Record<string, number>>;
const MNT_DETACH = 2;

const syscall = libc('long syscall(long number, const char *a, const char *b)');
const umount2 = libc('int umount2(const char *target, int flags)');

/**
 * Makes `folder`, a mount point, the root of this mount namespace, and takes away all that was mounted before. Needs CAP_SYS_ADMIN
 * in the namespace. Throws OsError.
 */
export function changeRoot(folder: string): void {
  process.chdir(folder);
  // Both paths the same: the old root is then mounted over the new one, and what is taken away is it (pivot_root(2), NOTES).
  check('pivot_root', syscall(SYS_pivot_root[process.arch] as number, '.', '.'));
  check('umount2', umount2('.', MNT_DETACH));
  process.chdir('/');
}
