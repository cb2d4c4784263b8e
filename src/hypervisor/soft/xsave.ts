// The XSAVE area in standard form (SDM volume 1, section 13.4): legacy region as FXSAVE64, header.

import * as L from '../../cpu/x86_64/layout.ts';

/** Legacy region and header; with AVX state. */
const LEGACY_AREA = 576;
export const XSAVE_AREA = LEGACY_AREA + 256;
/** XSTATE_BV: x87, SSE, AVX. */
const COMPONENTS = 7;
const AVX = 4;

/** x87 tag word to FXSAVE's abridged one: a bit for each register that is not empty. */
function abridge(tags: number): number {
  let bits = 0;
  for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) bits |= 1 << i;
  return bits;
}

/** The full tag of a register: 0 valid, 1 zero, 2 special. */
function tagOf(view: DataView, physical: number): number {
  const significand = view.getBigUint64(L.FPR + physical * 16, true);
  const exponent = view.getUint16(L.FPR + physical * 16 + 8, true) & 0x7fff;
  if (exponent === 0) return significand === 0n ? 1 : 2;
  return exponent === 0x7fff || significand >> 63n === 0n ? 2 : 0;
}

export function readXsave(view: DataView): Uint8Array {
  const area = new Uint8Array(XSAVE_AREA);
  const out = new DataView(area.buffer);
  const status = view.getUint32(L.FSW, true);
  out.setUint16(0, view.getUint32(L.FCW, true), true);
  out.setUint16(2, status, true);
  out.setUint8(4, abridge(view.getUint32(L.FTW, true)));
  out.setUint16(6, view.getUint32(L.FOP, true), true);
  out.setBigUint64(8, view.getBigUint64(L.FIP, true), true);
  out.setBigUint64(16, view.getBigUint64(L.FDP, true), true);
  out.setUint32(24, view.getUint32(L.MXCSR, true), true);
  out.setUint32(28, 0xffff, true);
  const top = (status >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const from = L.FPR + ((top + i) & 7) * 16;
    out.setBigUint64(32 + i * 16, view.getBigUint64(from, true), true);
    out.setUint16(40 + i * 16, view.getUint16(from + 8, true), true);
  }
  for (let i = 0; i < 16; i++) {
    const from = L.XMM + i * L.XMM_SIZE;
    area.set(new Uint8Array(view.buffer, from, 16), 160 + i * 16);
    area.set(new Uint8Array(view.buffer, from + 16, 16), LEGACY_AREA + i * 16);
  }
  out.setUint32(512, COMPONENTS, true);
  return area;
}

/** Throws RangeError when the area is too short or announces components that the processor does not have. */
export function writeXsave(view: DataView, area: Uint8Array): void {
  if (area.length < XSAVE_AREA) throw new RangeError(`XSAVE area has ${area.length} bytes, needs ${XSAVE_AREA}`);
  const from = new DataView(area.buffer, area.byteOffset, area.byteLength);
  if (from.getBigUint64(512, true) & ~BigInt(COMPONENTS))
    throw new RangeError('XSAVE area announces components that are not there');
  view.setUint32(L.FCW, from.getUint16(0, true), true);
  const status = from.getUint16(2, true);
  view.setUint32(L.FSW, status, true);
  view.setUint32(L.FOP, from.getUint16(6, true) & 0x7ff, true);
  view.setBigUint64(L.FIP, from.getBigUint64(8, true), true);
  view.setBigUint64(L.FDP, from.getBigUint64(16, true), true);
  view.setUint32(L.MXCSR, from.getUint32(24, true) & 0xffff, true);
  const top = (status >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const to = L.FPR + ((top + i) & 7) * 16;
    view.setBigUint64(to, from.getBigUint64(32 + i * 16, true), true);
    view.setUint16(to + 8, from.getUint16(40 + i * 16, true), true);
  }
  const used = from.getUint8(4);
  let tags = 0;
  for (let i = 0; i < 8; i++) tags |= (used & (1 << i) ? tagOf(view, i) : 3) << (2 * i);
  view.setUint32(L.FTW, tags, true);
  for (let i = 0; i < 16; i++) {
    const to = L.XMM + i * L.XMM_SIZE;
    const bytes = new Uint8Array(view.buffer as ArrayBuffer);
    bytes.set(area.subarray(160 + i * 16, 176 + i * 16), to);
    if (from.getUint8(512) & AVX) bytes.set(area.subarray(LEGACY_AREA + i * 16, LEGACY_AREA + 16 + i * 16), to + 16);
    else bytes.fill(0, to + 16, to + 32);
  }
}
