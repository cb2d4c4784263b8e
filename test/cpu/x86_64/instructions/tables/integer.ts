import { formsOf } from '../form.ts';

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, '0');

const GROUP1 = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];
const SHIFTS = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sal', 'sar'];
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

const group1 = GROUP1.map((name, n) => {
  const lock = name === 'cmp' ? '' : 'lock';
  const op = (i: number): string => hex(n * 8 + i);
  return `
    ${op(0)} ${name} Eb,Gb ${lock}
    ${op(1)} ${name} Ev,Gv ${lock}
    ${op(2)} ${name} Gb,Eb
    ${op(3)} ${name} Gv,Ev
    ${op(4)} ${name} AL,Ib
    ${op(5)} ${name} rAX,Iz
    80/${n} ${name} Eb,Ib ${lock}
    81/${n} ${name} Ev,Iz ${lock}
    83/${n} ${name} Ev,Ib ${lock}`;
}).join('\n');

const shifts = SHIFTS.map(
  (name, n) => `
    C0/${n} ${name} Eb,Ib =shift
    C1/${n} ${name} Ev,Ib =shift
    D0/${n} ${name} Eb,1 =shift
    D1/${n} ${name} Ev,1 =shift
    D2/${n} ${name} Eb,CL =shift
    D3/${n} ${name} Ev,CL =shift`,
).join('\n');

const conditions = CONDITIONS.map(
  (name, n) => `
    7${hex(n)[1]} j${name} =jcc8
    0F 8${hex(n)[1]} j${name} =jcc32
    0F 9${hex(n)[1]} set${name} Eb
    0F 4${hex(n)[1]} cmov${name} Gv,Ev`,
).join('\n');

const bits = ['bt', 'bts', 'btr', 'btc']
  .map((name, n) => {
    const lock = name === 'bt' ? '' : 'lock';
    return `
    0F ${hex(0xa3 + n * 8)} ${name} Ev,Gv =bitoffset ${lock}
    0F BA/${4 + n} ${name} Ev,Ib ${lock}`;
  })
  .join('\n');

/** One- and two-byte integer instructions that CPL 3 may use in 64-bit mode. */
export const integerForms = formsOf(`
${group1}
${shifts}
${conditions}
${bits}
    84 test Eb,Gb
    85 test Ev,Gv
    A8 test AL,Ib
    A9 test rAX,Iz
    F6/0 test Eb,Ib
    F7/0 test Ev,Iz
    F6/1 test Eb,Ib
    F7/1 test Ev,Iz
    F6/2 not Eb lock
    F7/2 not Ev lock
    F6/3 neg Eb lock
    F7/3 neg Ev lock
    F6/4 mul Eb
    F7/4 mul Ev
    F6/5 imul Eb
    F7/5 imul Ev
    0F AF imul Gv,Ev
    69 imul Gv,Ev,Iz
    6B imul Gv,Ev,Ib
    F6/6 div Eb =divide
    F7/6 div Ev =divide
    F6/7 idiv Eb =divide
    F7/7 idiv Ev =divide
    FE/0 inc Eb lock
    FF/0 inc Ev lock
    FE/1 dec Eb lock
    FF/1 dec Ev lock
    86 xchg Eb,Gb lock
    87 xchg Ev,Gv lock
    90+ xchg Zv
    88 mov Eb,Gb
    89 mov Ev,Gv
    8A mov Gb,Eb
    8B mov Gv,Ev
    C6/0 mov Eb,Ib
    C7/0 mov Ev,Iz
    B0+ mov Zb,Ib
    B8+ mov Zv,Iv
    A0 mov AL,Ob =moffs
    A1 mov rAX,Ov =moffs
    A2 mov Ob,AL =moffs
    A3 mov Ov,rAX =moffs
    63 movsxd Gv,Ed
    0F B6 movzx Gv,Eb
    0F B7 movzx Gv,Ew
    0F BE movsx Gv,Eb
    0F BF movsx Gv,Ew
    8D lea Gv,M =address
    98 cbw v
    99 cwd v
    0F C8+ bswap Zy
    9E sahf
    9F lahf
    F5 cmc
    F8 clc
    F9 stc
    FC cld
    FD std
    90 nop
    F3 90 pause
    0F 1F/0 nop Ev
    0F 18/0 prefetchnta M
    0F 0D/1 prefetchw M 3dnowprefetch
    0F AE/E8 lfence
    0F AE/F0 mfence
    0F AE/F8 sfence
    0F AE/7 clflush M =address
    D7 xlat =xlat
    0F A4 shld Ev,Gv,Ib =shift
    0F A5 shld Ev,Gv,CL =shift
    0F AC shrd Ev,Gv,Ib =shift
    0F AD shrd Ev,Gv,CL =shift
    0F BC bsf Gv,Ev
    0F BD bsr Gv,Ev
    F3 0F BC tzcnt Gv,Ev bmi1
    F3 0F BD lzcnt Gv,Ev abm
    F3 0F B8 popcnt Gv,Ev popcnt
    0F B0 cmpxchg Eb,Gb lock =cmpxchg
    0F B1 cmpxchg Ev,Gv lock =cmpxchg
    0F C0 xadd Eb,Gb lock
    0F C1 xadd Ev,Gv lock
    0F C7/1 cmpxchg8b Mq lock =cmpxchgpair
    0F C7/1 cmpxchg16b Mx lock w64 =cmpxchgpair
    0F38 F0 movbe Gv,Mv movbe
    0F38 F1 movbe Mv,Gv movbe
    F2 0F38 F0 crc32 Gy,Eb sse4_2
    F2 0F38 F1 crc32 Gy,Ey sse4_2
    F2 0F38 F1 crc32 Gd,Ew sse4_2 =crc16
    66 0F38 F6 adcx Gy,Ey adx
    F3 0F38 F6 adox Gy,Ey adx
    0F C3 movnti My,Gy
    0F 0B ud2
    0F B9 ud1 Gv,Ev
    0F FF ud0 Gv,Ev
    CC int3
    F1 int1
    F4 hlt
    FA cli
    FB sti
    EC in
    EE out
    0F 06 clts
    0F 08 invd
    0F 30 wrmsr
    0F 32 rdmsr
`);

/** Stack, calls and returns. */
export const stackForms = formsOf(`
    50+ push Zv d64 =stack
    58+ pop Zv d64 =stack
    FF/6 push Ev d64 =stack
    8F/0 pop Ev d64 =pop
    68 push Iz d64 =stack
    6A push Ib d64 =stack
    9C pushf d64 =stack
    9D popf d64 =popf
    C8 enter Iw,Ib d64 =enter
    C9 leave d64 =leave
    E8 call f64 =call32
    FF/2 call Ev f64 =jmpnear
    FF/4 jmp Ev f64 =jmpnear
    EB jmp =jcc8
    E9 jmp =jcc32
    C3 ret f64 =ret
    C2 ret Iw f64 =ret
    E0 loopne =loop8
    E1 loope =loop8
    E2 loop =loop8
    E3 jrcxz =loop8
`);

/** String instructions with and without repeat prefixes. */
export const stringForms = formsOf(`
    A4 movsb rep =string
    A5 movs v rep =string
    AA stosb rep =string
    AB stos v rep =string
    AC lodsb rep =string
    AD lods v rep =string
    A6 cmpsb repz =string
    A7 cmps v repz =string
    AE scasb repz =string
    AF scas v repz =string
`);
