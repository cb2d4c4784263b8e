/** The Internet checksum (RFC 1071): sums are kept unfolded, as numbers, until finish(). */

/** The sum of big-endian 16-bit words of bytes, on top of `sum`. An odd last byte is padded with zero. */
export function addBytes(sum: number, bytes: Uint8Array, start = 0, end = bytes.length): number {
  let total = sum;
  let i = start;
  for (; i + 1 < end; i += 2) total += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  if (i < end) total += (bytes[i] as number) << 8;
  return total;
}

/** Folded to 16 bits, not complemented. */
export function fold(sum: number): number {
  let total = sum;
  while (total > 0xffff) total = (total % 0x10000) + Math.floor(total / 0x10000);
  return total;
}

/** The checksum: 16 bits as they stand in a header. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** The pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, 3.1; RFC 8200, 8.1). `length`: bytes of header and data. */
export function pseudoHeader(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): number {
  return addBytes(addBytes(protocol + (length >>> 16) + (length & 0xffff), source), destination);
}
