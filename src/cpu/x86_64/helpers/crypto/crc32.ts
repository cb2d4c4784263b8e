// CRC32: the CRC of iSCSI and ext4 (polynomial 0x11EDC6F41), bits reflected (SDM volume 2).

/** Remainders of the sixteen values of four bits. */
const TABLE = memory.data<u32>([
  0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78,
  0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
]);

/** The CRC after the low `bytes` bytes of `value`. */
export function crc32c(crc: u32, value: u64, bytes: i32): u32 {
  let rest = crc;
  let data = value;
  for (let i = 0; i < bytes; i++) {
    rest ^= <u32>data & 0xff;
    rest = (rest >> 4) ^ load<u32>(TABLE + ((rest & 15) << 2));
    rest = (rest >> 4) ^ load<u32>(TABLE + ((rest & 15) << 2));
    data >>= 8;
  }
  return rest;
}
