// What helpers.wasm offers: to handlers (semantics/helper-names.ts), and to the vCPU (processor.ts).

// To handlers.
export { commit_store, load_slow, rmw_slow, store_slow, tlb_flush } from './access';
export { ea_slow } from './address';
export { avx_gather, avx_masked_load, avx_masked_store } from './avx';
export { forget_block } from './block';
export { code_written } from './code';
export { far_call, far_jump } from './control';
export { cpuid } from './cpuid';
export { aes_dec, aes_declast, aes_enc, aes_enclast, aes_imc, aes_keygenassist } from './crypto/aes';
export { pclmulqdq } from './crypto/carryless';
export { crc32c } from './crypto/crc32';
export { sha1_msg1, sha1_msg2, sha1_nexte, sha1_rnds4, sha256_msg1, sha256_msg2, sha256_rnds2 } from './crypto/sha';
export { string_compare } from './crypto/string-compare';
export { check_exec_breakpoint, debug_trap, mov_from_dr, mov_to_dr } from './debug';
export { deliver_exception, deliver_interrupt, int_n, int1, int3, into, undefined_opcode } from './exceptions';
export { arith_of, condition, get_arith, get_rflags, set_rflags } from './flags';
export { fpu_load_environment, fpu_restore, fpu_save, fpu_store_environment } from './fpu/environment';
export { fpu_exponential, fpu_logarithm } from './fpu/logarithm';
export {
  fpu_arith,
  fpu_arith_memory,
  fpu_compare,
  fpu_compare_flags,
  fpu_compare_memory,
  fpu_examine,
  fpu_sqrt,
  fpu_test,
} from './fpu/operations';
export { fpu_extract, fpu_remainder, fpu_round, fpu_scale } from './fpu/rounding';
export { fxrstor, fxsave, xrstor, xsave, xsavec, xsaveopt } from './fpu/save';
export { fpu_begin, fpu_operand } from './fpu/stack';
export {
  avx_unavailable,
  fpu_available,
  fpu_clear_exceptions,
  fpu_empty,
  fpu_enter,
  fpu_initialize,
  fpu_load_control,
  fpu_pending,
  fpu_wait,
  mmx_enter,
  sse_unavailable,
} from './fpu/state';
export {
  fpu_exchange,
  fpu_free,
  fpu_load,
  fpu_load_constant,
  fpu_load_decimal,
  fpu_load_extended,
  fpu_load_register,
  fpu_move,
  fpu_rotate,
  fpu_sign,
  fpu_store,
  fpu_store_register,
} from './fpu/transfer';
export { fpu_arctangent, fpu_sine, fpu_two } from './fpu/trigonometry';
// To the vCPU.
export { code_page_protect, debug_translate, tlb_fill } from './mmu';
export { update_mode } from './mode';
export { rdmsr, wrmsr } from './msr';
export { bcd_adjust, pdep, pext, quotient, quotient_fits, quotient_signed, random } from './muldiv';
export { port_in, port_out } from './port';
export { raise, raise_error } from './raise';
export { reset_state, sipi } from './reset';
export { far_ret, iret } from './returns';
export { lldt, load_segment, ltr, sldt, str } from './segments';
export { soft_rcp_f32, soft_rsqrt_f32 } from './soft/approximate';
export {
  soft_add_f32,
  soft_add_f64,
  soft_div_f32,
  soft_div_f64,
  soft_mul_f32,
  soft_mul_f64,
  soft_sqrt_f32,
  soft_sqrt_f64,
  soft_sub_f32,
  soft_sub_f64,
} from './soft/arithmetic';
export {
  soft_cmp_f32,
  soft_cmp_f64,
  soft_comi_f32,
  soft_comi_f64,
  soft_max_f32,
  soft_max_f64,
  soft_min_f32,
  soft_min_f64,
  soft_ucomi_f32,
  soft_ucomi_f64,
} from './soft/compare';
export {
  soft_f32_to_f64,
  soft_f64_to_f32,
  soft_i64_to_f32,
  soft_i64_to_f64,
  soft_round_f32,
  soft_round_f64,
  soft_to_i32_f32,
  soft_to_i32_f64,
  soft_to_i64_f32,
  soft_to_i64_f64,
} from './soft/convert';
export { soft_fma_f32, soft_fma_f64 } from './soft/fused';
export { soft_f16_to_f32, soft_f32_to_f16 } from './soft/half';
export { soft_lanes_f32, soft_lanes_f64 } from './soft/lanes';
export { soft_begin, soft_end } from './soft/state';
export { enter, leave_frame, pop_legacy, popa, push_legacy, pusha, top_legacy, xlat_legacy } from './stack';
export { maskmov, string_io, string_op } from './string';
export { rdfsgsbase, swapgs, syscall, sysenter, sysexit, sysret, wrfsgsbase } from './syscall';
export {
  cli,
  clts,
  hlt,
  interruptible,
  invlpg_op,
  invpcid_op,
  mov_from_cr,
  mov_to_cr,
  nmi_interruptible,
  popf,
  pushf_value,
  rdpmc,
  rdtsc,
  rdtscp,
  set_ac,
  sti,
  wbinvd,
  xgetbv,
  xsetbv,
} from './system';
export { arpl, lar, lgdt, lidt, lmsw, lsl, sgdt, sidt, smsw, verr, verw } from './tables';
