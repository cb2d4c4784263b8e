// SHA extensions (FIPS 180-4; SDM volume 2). `d` and `s` are the addresses of the destination register and of the
// source; they may be one. Dword i is at offset 4 * i.

import { XMM } from '../../layout';

// @ts-ignore: decorator
@inline
function dword(address: usize, index: u32): u32 {
  return load<u32>(address + (index << 2));
}

function put(address: usize, d3: u32, d2: u32, d1: u32, d0: u32): void {
  store<u32>(address, d0);
  store<u32>(address + 4, d1);
  store<u32>(address + 8, d2);
  store<u32>(address + 12, d3);
}

// ---- SHA-1 ---------------------------------------------------------------------------------------------------------
/** Four rounds of the kind `kind` (0 to 3). */
export function sha1_rnds4(d: usize, s: usize, kind: u32): void {
  let a = dword(d, 3);
  let b = dword(d, 2);
  let c = dword(d, 1);
  let e = dword(d, 0);
  // The source's top dword has the fifth word of the state in it.
  let carried: u32 = 0;
  const which = kind & 3;
  const w0 = dword(s, 3);
  const w1 = dword(s, 2);
  const w2 = dword(s, 1);
  const w3 = dword(s, 0);
  for (let i = 0; i < 4; i++) {
    let f: u32;
    let k: u32;
    if (which == 0) {
      f = (b & c) ^ (~b & e);
      k = 0x5a827999;
    } else if (which == 1) {
      f = b ^ c ^ e;
      k = 0x6ed9eba1;
    } else if (which == 2) {
      f = (b & c) ^ (b & e) ^ (c & e);
      k = 0x8f1bbcdc;
    } else {
      f = b ^ c ^ e;
      k = 0xca62c1d6;
    }
    const w = i == 0 ? w0 : i == 1 ? w1 : i == 2 ? w2 : w3;
    const next = f + rotl<u32>(a, 5) + w + carried + k;
    carried = e;
    e = c;
    c = rotl<u32>(b, 30);
    b = a;
    a = next;
  }
  put(d, a, b, c, e);
}

export function sha1_nexte(d: usize, s: usize): void {
  const e = rotl<u32>(dword(d, 3), 30);
  put(d, dword(s, 3) + e, dword(s, 2), dword(s, 1), dword(s, 0));
}

export function sha1_msg1(d: usize, s: usize): void {
  const w2 = dword(d, 1);
  const w3 = dword(d, 0);
  put(d, w2 ^ dword(d, 3), w3 ^ dword(d, 2), dword(s, 3) ^ w2, dword(s, 2) ^ w3);
}

export function sha1_msg2(d: usize, s: usize): void {
  const w16 = rotl<u32>(dword(d, 3) ^ dword(s, 2), 1);
  const w17 = rotl<u32>(dword(d, 2) ^ dword(s, 1), 1);
  const w18 = rotl<u32>(dword(d, 1) ^ dword(s, 0), 1);
  put(d, w16, w17, w18, rotl<u32>(dword(d, 0) ^ w16, 1));
}

// ---- SHA-256 -------------------------------------------------------------------------------------------------------
/** Two rounds; the words with their constants are in XMM0. */
export function sha256_rnds2(d: usize, s: usize): void {
  let a = dword(s, 3);
  let b = dword(s, 2);
  let c = dword(d, 3);
  let dd = dword(d, 2);
  let e = dword(s, 1);
  let f = dword(s, 0);
  let g = dword(d, 1);
  let h = dword(d, 0);
  const first = dword(XMM, 0);
  const second = dword(XMM, 1);
  for (let i = 0; i < 2; i++) {
    const choice = (e & f) ^ (~e & g);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    const t = choice + (rotr<u32>(e, 6) ^ rotr<u32>(e, 11) ^ rotr<u32>(e, 25)) + (i == 0 ? first : second) + h;
    h = g;
    g = f;
    f = e;
    e = t + dd;
    dd = c;
    c = b;
    b = a;
    a = t + majority + (rotr<u32>(b, 2) ^ rotr<u32>(b, 13) ^ rotr<u32>(b, 22));
  }
  put(d, a, b, e, f);
}

function small0(x: u32): u32 {
  return rotr<u32>(x, 7) ^ rotr<u32>(x, 18) ^ (x >> 3);
}

function small1(x: u32): u32 {
  return rotr<u32>(x, 17) ^ rotr<u32>(x, 19) ^ (x >> 10);
}

export function sha256_msg1(d: usize, s: usize): void {
  const w1 = dword(d, 1);
  const w2 = dword(d, 2);
  const w3 = dword(d, 3);
  put(d, w3 + small0(dword(s, 0)), w2 + small0(w3), w1 + small0(w2), dword(d, 0) + small0(w1));
}

export function sha256_msg2(d: usize, s: usize): void {
  const w16 = dword(d, 0) + small1(dword(s, 2));
  const w17 = dword(d, 1) + small1(dword(s, 3));
  const w18 = dword(d, 2) + small1(w16);
  put(d, dword(d, 3) + small1(w17), w18, w17, w16);
}
