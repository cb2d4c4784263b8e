import { execFileSync } from 'node:child_process';

export const QEMU = 'qemu-system-x86_64';

/** QEMU's version. */
export function qemuVersion(): string {
  try {
    const text = execFileSync(QEMU, ['--version'], { encoding: 'utf8' });
    return /version (\S+)/.exec(text)?.[1] ?? text;
  } catch {
    throw new Error(`${QEMU} is needed to compare with: apt-get install --no-install-recommends qemu-system-x86`);
  }
}
