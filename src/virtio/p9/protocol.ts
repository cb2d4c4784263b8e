/** Numbers of 9P2000.L, by its names (include/net/9p/9p.h). */

export const VERSION = '9P2000.L';
export const VERSION_UNKNOWN = 'unknown';

// Requests; an answer's number is one more.
export const Tlerror = 6;
export const Tstatfs = 8;
export const Tlopen = 12;
export const Tlcreate = 14;
export const Tsymlink = 16;
export const Tmknod = 18;
export const Trename = 20;
export const Treadlink = 22;
export const Tgetattr = 24;
export const Tsetattr = 26;
export const Txattrwalk = 30;
export const Txattrcreate = 32;
export const Treaddir = 40;
export const Tfsync = 50;
export const Tlock = 52;
export const Tgetlock = 54;
export const Tlink = 70;
export const Tmkdir = 72;
export const Trenameat = 74;
export const Tunlinkat = 76;
export const Tversion = 100;
export const Tauth = 102;
export const Tattach = 104;
export const Tflush = 108;
export const Twalk = 110;
export const Tread = 116;
export const Twrite = 118;
export const Tclunk = 120;
export const Tremove = 122;
export const Rlerror = 7;

/** size[4] type[1] tag[2]. */
export const HEADER_SIZE = 7;
/** In front of the bytes that a file gives: the header and count[4]. */
export const READ_HEADER_SIZE = 11;
/** In front of the bytes for a file: the header, fid[4] offset[8] count[4]. */
export const WRITE_HEADER_SIZE = 23;
/** What msize counts beside a file's bytes (P9_IOHDRSZ). */
export const IO_HEADER_SIZE = 24;
/** Components of one Twalk. */
export const MAXWELEM = 16;
/** In place of a user's number: none. */
export const NONUNAME = 0xffff_ffff;

export const QTDIR = 0x80;
export const QTSYMLINK = 0x02;
export const QTFILE = 0;

// Tgetattr's request_mask.
export const GETATTR_BASIC = 0x7ffn;
export const GETATTR_BTIME = 0x800n;

// Tsetattr's valid.
export const SETATTR_MODE = 0x1;
export const SETATTR_UID = 0x2;
export const SETATTR_GID = 0x4;
export const SETATTR_SIZE = 0x8;
export const SETATTR_ATIME = 0x10;
export const SETATTR_MTIME = 0x20;
export const SETATTR_CTIME = 0x40;
export const SETATTR_ATIME_SET = 0x80;
export const SETATTR_MTIME_SET = 0x100;

export const LOCK_FLAGS_BLOCK = 1;
export const LOCK_SUCCESS = 0;
export const LOCK_BLOCKED = 1;

/** Tunlinkat's flag for a directory. */
export const DOTL_AT_REMOVEDIR = 0x200;
/** Txattrcreate's flag: the attribute must be there. */
export const XATTR_REPLACE = 2;
