// Placeholder for the exact soft floats: rounds to nearest, sets no MXCSR flags. To be replaced.
export function soft_add_f64(a: u64, b: u64): u64 { return reinterpret<u64>(reinterpret<f64>(a) + reinterpret<f64>(b)); }
export function soft_add_f32(a: u32, b: u32): u32 { return reinterpret<u32>(reinterpret<f32>(a) + reinterpret<f32>(b)); }
export function soft_sub_f64(a: u64, b: u64): u64 { return reinterpret<u64>(reinterpret<f64>(a) - reinterpret<f64>(b)); }
export function soft_sub_f32(a: u32, b: u32): u32 { return reinterpret<u32>(reinterpret<f32>(a) - reinterpret<f32>(b)); }
export function soft_mul_f64(a: u64, b: u64): u64 { return reinterpret<u64>(reinterpret<f64>(a) * reinterpret<f64>(b)); }
export function soft_mul_f32(a: u32, b: u32): u32 { return reinterpret<u32>(reinterpret<f32>(a) * reinterpret<f32>(b)); }
export function soft_div_f64(a: u64, b: u64): u64 { return reinterpret<u64>(reinterpret<f64>(a) / reinterpret<f64>(b)); }
export function soft_div_f32(a: u32, b: u32): u32 { return reinterpret<u32>(reinterpret<f32>(a) / reinterpret<f32>(b)); }
export function soft_sqrt_f64(a: u64): u64 { return reinterpret<u64>(sqrt<f64>(reinterpret<f64>(a))); }
export function soft_min_f64(a: u64, b: u64): u64 { return reinterpret<f64>(a) < reinterpret<f64>(b) ? a : b; }
export function soft_max_f64(a: u64, b: u64): u64 { return reinterpret<f64>(a) > reinterpret<f64>(b) ? a : b; }
export function soft_ucomi_f64(a: u64, b: u64): i32 { const x = reinterpret<f64>(a), y = reinterpret<f64>(b); return x == y ? 0x40 : x < y ? 1 : x > y ? 0 : 0x45; }
export function soft_comi_f64(a: u64, b: u64): i32 { const x = reinterpret<f64>(a), y = reinterpret<f64>(b); return x == y ? 0x40 : x < y ? 1 : x > y ? 0 : 0x45; }
export function soft_to_i32_f64(a: u64, tr: i32): i64 { const x = reinterpret<f64>(a); return <i64>(<i32>(tr ? trunc<f64>(x) : nearest<f64>(x))); }
export function soft_to_i64_f64(a: u64, tr: i32): i64 { const x = reinterpret<f64>(a); return <i64>(tr ? trunc<f64>(x) : nearest<f64>(x)); }
export function soft_i64_to_f64(a: i64): u64 { return reinterpret<u64>(<f64>a); }
export function soft_sqrt_f32(a: u32): u32 { return reinterpret<u32>(sqrt<f32>(reinterpret<f32>(a))); }
export function soft_min_f32(a: u32, b: u32): u32 { return reinterpret<f32>(a) < reinterpret<f32>(b) ? a : b; }
export function soft_max_f32(a: u32, b: u32): u32 { return reinterpret<f32>(a) > reinterpret<f32>(b) ? a : b; }
export function soft_ucomi_f32(a: u32, b: u32): i32 { const x = reinterpret<f32>(a), y = reinterpret<f32>(b); return x == y ? 0x40 : x < y ? 1 : x > y ? 0 : 0x45; }
export function soft_comi_f32(a: u32, b: u32): i32 { const x = reinterpret<f32>(a), y = reinterpret<f32>(b); return x == y ? 0x40 : x < y ? 1 : x > y ? 0 : 0x45; }
export function soft_to_i32_f32(a: u32, tr: i32): i64 { const x = reinterpret<f32>(a); return <i64>(<i32>(tr ? trunc<f32>(x) : nearest<f32>(x))); }
export function soft_to_i64_f32(a: u32, tr: i32): i64 { const x = reinterpret<f32>(a); return <i64>(tr ? trunc<f32>(x) : nearest<f32>(x)); }
export function soft_i64_to_f32(a: i64): u32 { return reinterpret<u32>(<f32>a); }
export function soft_f32_to_f64(a: u32): u64 { return reinterpret<u64>(<f64>reinterpret<f32>(a)); }
export function soft_f64_to_f32(a: u64): u32 { return reinterpret<u32>(<f32>reinterpret<f64>(a)); }
export function soft_begin(): void {}
export function soft_end(): i32 { return 0; }
export function soft_cmp_f64(a: u64, b: u64, p: i32): u64 { return cmp(reinterpret<f64>(a), reinterpret<f64>(b), p) ? <u64>-1 : 0; }
export function soft_cmp_f32(a: u32, b: u32, p: i32): u32 { return cmp(reinterpret<f32>(a), reinterpret<f32>(b), p) ? <u32>-1 : 0; }
function cmp(a: f64, b: f64, p: i32): bool {
  const u = isNaN(a) || isNaN(b);
  const k = p & 3;
  const r: bool = k == 0 ? a == b : k == 1 ? a < b : k == 2 ? a <= b : u;
  return (p & 4 ? !r : r);
}
export function soft_round_f64(a: u64, mode: i32): u64 { return reinterpret<u64>(round(reinterpret<f64>(a), mode)); }
export function soft_round_f32(a: u32, mode: i32): u32 { return reinterpret<u32>(<f32>round(reinterpret<f32>(a), mode)); }
function round(x: f64, mode: i32): f64 {
  const m = mode & 4 ? 0 : mode & 3;
  return m == 0 ? nearest<f64>(x) : m == 1 ? floor<f64>(x) : m == 2 ? ceil<f64>(x) : trunc<f64>(x);
}
export function soft_rcp_f32(a: u32): u32 { return reinterpret<u32>(<f32>1 / reinterpret<f32>(a)); }
export function soft_rsqrt_f32(a: u32): u32 { return reinterpret<u32>(<f32>1 / sqrt<f32>(reinterpret<f32>(a))); }
