/** A directory of the host that a guest gets. */
export interface SharedDirectory {
  /** Absolute path on the host. */
  readonly path: string;
  /** How the guest names it. */
  readonly tag: string;
  readonly readOnly: boolean;
  /** The guest's numbers for the user and the group that serve it; the host's if null. */
  readonly uid: number | null;
  readonly gid: number | null;
  readonly protocol: { readonly type: 'p9' } | { readonly type: 'fs'; readonly cache: CachePolicy };
}

/**
 * What a virtio-fs client may keep: `never` anything; `auto`: names and attributes for a second, contents as long as a file
 * is open; `always` everything, because nobody else changes the directory.
 */
export const CACHE_POLICIES = ['auto', 'always', 'never'] as const;
export type CachePolicy = (typeof CACHE_POLICIES)[number];
