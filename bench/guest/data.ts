// What the members of the set work on. The same bytes every time.

/** A pseudo-random number from 0 (included) to `below` (not included), at most 65536, by xorshift. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 16) * below) >>> 16;
  };
}

const SYLLABLES = [
  'ba',
  'co',
  'de',
  'fi',
  'ing',
  'ka',
  'lo',
  'mon',
  'ner',
  'o',
  'pra',
  're',
  'sta',
  'th',
  'um',
  'vi',
  'wel',
  'zz',
];
const SHORT = ['the', 'and', 'of', 'a', 'to', 'in'];

/** Lines of words that look a little like English, about this many bytes. */
export function text(bytes: number): Buffer {
  const random = numbers(0x1234_5678);
  const words = Array.from({ length: 3000 }, () => {
    return Array.from({ length: 1 + random(4) }, () => SYLLABLES[random(SYLLABLES.length)]).join('');
  });
  const lines: string[] = [];
  for (let length = 0; length < bytes; ) {
    const line = Array.from({ length: 6 + random(8) }, () => {
      if (random(3) === 0) return SHORT[random(SHORT.length)];
      // Some words are much more frequent than others.
      return words[random(1 + random(words.length))] + (random(9) === 0 ? ',' : '');
    }).join(' ');
    lines.push(`${line}.\n`);
    length += line.length + 2;
  }
  return Buffer.from(lines.join(''));
}

/** A C file without includes: functions of loops, switches, structures, and floating point. */
export function source(functions: number): Buffer {
  const random = numbers(0x2468_ace1);
  const parts = ['struct item { int key; long weight; struct item *next; char name[16]; double share; };\n'];
  for (let i = 0; i < functions; i++) {
    const cases = Array.from(
      { length: 4 + random(6) },
      (_, k) => `    case ${k * 3 + random(3)}: sum ^= key << ${k}; break;\n`,
    );
    parts.push(`
static long walk_${i}(struct item *list, int key, long *table) {
  long sum = ${random(1000)};
  for (struct item *item = list; item; item = item->next) {
    switch ((item->key + key) & ${random(2) === 0 ? 15 : 31}) {
${cases.join('')}    default: sum += item->weight / (key | 1) + table[item->key & 63];
    }
    if (item->share * ${1 + random(9)}.5 > sum) item->share -= sum * 0.${1 + random(8)};
  }
  for (int i = 0; i < ${16 + random(48)}; i++) table[i] = table[i + 1] * ${random(100)} + (sum >> (i & 7)) - item_${i % 7}(table, i);
  return sum${i > 0 ? ` + (key > ${random(50)} ? walk_${random(i)}(list, key - 1, table) : 0)` : ''};
}
`);
  }
  const helpers = Array.from(
    { length: 7 },
    (_, i) => `static int item_${i}(long *table, int i) { return table[i] % ${i + 3} == 0 ? i * ${i + 1} : -i; }\n`,
  );
  const calls = Array.from({ length: functions }, (_, i) => `  sum += walk_${i}(list, ${i}, table);\n`);
  const main = `\nlong all(struct item *list, long *table) {\n  long sum = 0;\n${calls.join('')}  return sum;\n}\n`;
  return Buffer.from([parts[0], ...helpers, ...parts.slice(1), main].join(''));
}
