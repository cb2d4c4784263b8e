/** System description tables: header and checksum (ACPI 6.4, 5.2.6). */

export const TABLE_HEADER_SIZE = 36;
const LENGTH = 4;
const REVISION = 8;
const CHECKSUM = 9;
const OEM_ID = 'VIVARM';
const OEM_TABLE_ID = 'VIVARIUM';
const CREATOR_ID = 'VIVM';

/** The byte that makes the sum of all bytes 0 (modulo 256), given that its own place holds 0. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) {
    sum += byte;
  }
  return -sum & 0xff;
}

/** Writes ASCII text at `offset`. */
export function putText(bytes: Uint8Array, offset: number, text: string): void {
  for (let i = 0; i < text.length; i++) {
    bytes[offset + i] = text.charCodeAt(i);
  }
}

/** A whole table: header, then `body`. `signature` has four characters. */
export function makeTable(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const table = new Uint8Array(TABLE_HEADER_SIZE + body.length);
  const view = new DataView(table.buffer);
  putText(table, 0, signature);
  view.setUint32(LENGTH, table.length, true);
  view.setUint8(REVISION, revision);
  putText(table, 10, OEM_ID);
  putText(table, 16, OEM_TABLE_ID);
  view.setUint32(24, 1, true); // OEM revision
  putText(table, 28, CREATOR_ID);
  view.setUint32(32, 1, true); // creator revision
  table.set(body, TABLE_HEADER_SIZE);
  view.setUint8(CHECKSUM, checksum(table));
  return table;
}

/** RSDP of revision 2, with an XSDT only (5.2.5.3). */
export function makeRsdp(xsdtAddress: number): Uint8Array {
  const rsdp = new Uint8Array(36);
  const view = new DataView(rsdp.buffer);
  putText(rsdp, 0, 'RSD PTR ');
  putText(rsdp, 9, OEM_ID);
  view.setUint8(15, 2);
  view.setUint32(20, rsdp.length, true);
  view.setBigUint64(24, BigInt(xsdtAddress), true);
  view.setUint8(8, checksum(rsdp.subarray(0, 20)));
  view.setUint8(32, checksum(rsdp));
  return rsdp;
}

/** XSDT (5.2.8). */
export function makeXsdt(addresses: readonly number[]): Uint8Array {
  const body = new Uint8Array(addresses.length * 8);
  const view = new DataView(body.buffer);
  for (const [i, address] of addresses.entries()) {
    view.setBigUint64(i * 8, BigInt(address), true);
  }
  return makeTable('XSDT', 1, body);
}
