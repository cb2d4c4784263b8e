// SHA extensions (FIPS 180-4; SDM volume 2). `d` is the destination register, `s` the source.

function put(d3: u32, d2: u32, d1: u32, d0: u32): v128 {
  return i32x4.replace_lane(i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(d0), 1, d1), 2, d2), 3, d3);
}

// ---- SHA-1 ---------------------------------------------------------------------------------------------------------
/** Four rounds of the kind `kind` (0 to 3). */
export function sha1_rnds4(d: v128, s: v128, kind: u32): v128 {
  let a = <u32>i32x4.extract_lane(d, 3);
  let b = <u32>i32x4.extract_lane(d, 2);
  let c = <u32>i32x4.extract_lane(d, 1);
  let e = <u32>i32x4.extract_lane(d, 0);
  // The source's top dword has the fifth word of the state in it.
  let carried: u32 = 0;
  const which = kind & 3;
  const w0 = <u32>i32x4.extract_lane(s, 3);
  const w1 = <u32>i32x4.extract_lane(s, 2);
  const w2 = <u32>i32x4.extract_lane(s, 1);
  const w3 = <u32>i32x4.extract_lane(s, 0);
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
  return put(a, b, c, e);
}

export function sha1_nexte(d: v128, s: v128): v128 {
  const e = rotl<u32>(<u32>i32x4.extract_lane(d, 3), 30);
  return put(<u32>i32x4.extract_lane(s, 3) + e, <u32>i32x4.extract_lane(s, 2), <u32>i32x4.extract_lane(s, 1), <u32>i32x4.extract_lane(s, 0));
}

export function sha1_msg1(d: v128, s: v128): v128 {
  const w2 = <u32>i32x4.extract_lane(d, 1);
  const w3 = <u32>i32x4.extract_lane(d, 0);
  return put(w2 ^ <u32>i32x4.extract_lane(d, 3), w3 ^ <u32>i32x4.extract_lane(d, 2), <u32>i32x4.extract_lane(s, 3) ^ w2, <u32>i32x4.extract_lane(s, 2) ^ w3);
}

export function sha1_msg2(d: v128, s: v128): v128 {
  const w16 = rotl<u32>(<u32>i32x4.extract_lane(d, 3) ^ <u32>i32x4.extract_lane(s, 2), 1);
  const w17 = rotl<u32>(<u32>i32x4.extract_lane(d, 2) ^ <u32>i32x4.extract_lane(s, 1), 1);
  const w18 = rotl<u32>(<u32>i32x4.extract_lane(d, 1) ^ <u32>i32x4.extract_lane(s, 0), 1);
  return put(w16, w17, w18, rotl<u32>(<u32>i32x4.extract_lane(d, 0) ^ w16, 1));
}

// ---- SHA-256 -------------------------------------------------------------------------------------------------------
/** Two rounds; the words with their constants are `words`. */
export function sha256_rnds2(d: v128, s: v128, words: v128): v128 {
  let a = <u32>i32x4.extract_lane(s, 3);
  let b = <u32>i32x4.extract_lane(s, 2);
  let c = <u32>i32x4.extract_lane(d, 3);
  let dd = <u32>i32x4.extract_lane(d, 2);
  let e = <u32>i32x4.extract_lane(s, 1);
  let f = <u32>i32x4.extract_lane(s, 0);
  let g = <u32>i32x4.extract_lane(d, 1);
  let h = <u32>i32x4.extract_lane(d, 0);
  const first = <u32>i32x4.extract_lane(words, 0);
  const second = <u32>i32x4.extract_lane(words, 1);
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
  return put(a, b, e, f);
}

function small0(x: u32): u32 {
  return rotr<u32>(x, 7) ^ rotr<u32>(x, 18) ^ (x >> 3);
}

function small1(x: u32): u32 {
  return rotr<u32>(x, 17) ^ rotr<u32>(x, 19) ^ (x >> 10);
}

export function sha256_msg1(d: v128, s: v128): v128 {
  const w1 = <u32>i32x4.extract_lane(d, 1);
  const w2 = <u32>i32x4.extract_lane(d, 2);
  const w3 = <u32>i32x4.extract_lane(d, 3);
  return put(w3 + small0(<u32>i32x4.extract_lane(s, 0)), w2 + small0(w3), w1 + small0(w2), <u32>i32x4.extract_lane(d, 0) + small0(w1));
}

export function sha256_msg2(d: v128, s: v128): v128 {
  const w16 = <u32>i32x4.extract_lane(d, 0) + small1(<u32>i32x4.extract_lane(s, 2));
  const w17 = <u32>i32x4.extract_lane(d, 1) + small1(<u32>i32x4.extract_lane(s, 3));
  const w18 = <u32>i32x4.extract_lane(d, 2) + small1(w16);
  return put(<u32>i32x4.extract_lane(d, 3) + small1(w17), w18, w17, w16);
}
