/** Flags that the SDM leaves undefined after an instruction (volume 1, appendix A, and the instructions' pages). */

export const CF = 0x1;
export const PF = 0x4;
export const AF = 0x10;
export const ZF = 0x40;
export const SF = 0x80;
export const OF = 0x800;

const BITS: Record<string, number> = { C: CF, P: PF, A: AF, Z: ZF, S: SF, O: OF };

/** By mnemonic: letters of the flags, or the name of a rule that looks at the shift count. */
const UNDEFINED: Record<string, string> = {
  and: 'A',
  or: 'A',
  xor: 'A',
  test: 'A',
  andn: 'AP',
  mul: 'SZAP',
  imul: 'SZAP',
  div: 'COSZAP',
  idiv: 'COSZAP',
  shl: 'shift',
  shr: 'shift',
  sal: 'shift',
  sar: 'sar',
  rol: 'rotate',
  ror: 'rotate',
  rcl: 'rotate',
  rcr: 'rotate',
  shld: 'double',
  shrd: 'double',
  bt: 'OSAP',
  bts: 'OSAP',
  btr: 'OSAP',
  btc: 'OSAP',
  bsf: 'COSAP',
  bsr: 'COSAP',
  tzcnt: 'OSAP',
  lzcnt: 'OSAP',
  bextr: 'ASP',
  bzhi: 'AP',
  blsi: 'AP',
  blsr: 'AP',
  blsmsk: 'AP',
};

export function undefinedFlagsOf(mnemonic: string): string {
  return UNDEFINED[mnemonic] ?? '';
}

/**
 * Mask of the undefined flags. `rule` is letters or a rule's name, `count` the shift count before masking,
 * `size` the operand's bytes.
 */
export function undefinedMask(rule: string, count: number, size: number): number {
  if (rule === '') return 0;
  const masked = count & (size === 8 ? 63 : 31);
  const bits = size * 8;
  switch (rule) {
    case 'shift':
      if (masked === 0) return 0;
      return AF | (masked === 1 ? 0 : OF) | (masked >= bits ? CF : 0);
    case 'sar':
      return masked === 0 ? 0 : AF | (masked === 1 ? 0 : OF);
    case 'rotate':
      return masked <= 1 ? 0 : OF;
    case 'double':
      if (masked === 0) return 0;
      return AF | (masked === 1 ? 0 : OF);
    default:
      return [...rule].reduce((mask, letter) => mask | (BITS[letter] as number), 0);
  }
}
