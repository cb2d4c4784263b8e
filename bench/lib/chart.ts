// Bar charts as SVG.

export interface Bar {
  readonly name: string;
  /** More than 0. */
  readonly value: number;
  /** Another value, shown by a dot. */
  readonly dot?: number;
}

const ROW = 18;
const LEFT = 130;
const PLOT = 560;
const RIGHT = 60;
const TOP = 54;
/** Values at which the scale has a line. */
const MARKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** Horizontal bars on a logarithmic scale, that start at 1: to the right what is more, to the left what is less. */
export function barChart(title: string, bars: readonly Bar[]): string {
  const values = bars.flatMap(({ value, dot }) => (dot === undefined ? [value] : [value, dot]));
  const low = MARKS.findLast((mark) => mark <= Math.min(...values, 0.5)) ?? MARKS[0]!;
  const high = MARKS.find((mark) => mark >= Math.max(...values, 2)) ?? MARKS.at(-1)!;
  const x = (value: number): number => {
    const clamped = Math.min(Math.max(value, low), high);
    return Math.round(LEFT + (PLOT * Math.log(clamped / low)) / Math.log(high / low));
  };
  const bottom = TOP + bars.length * ROW;
  const lines = MARKS.filter((mark) => mark >= low && mark <= high).map((mark) => {
    const stroke = mark === 1 ? '#222' : '#ccc';
    return (
      `<line x1="${x(mark)}" x2="${x(mark)}" y1="${TOP - 4}" y2="${bottom}" stroke="${stroke}"/>` +
      `<text x="${x(mark)}" y="${TOP - 9}" text-anchor="middle">${mark}</text>`
    );
  });
  const rows = bars.map(({ name, value, dot }, index) => {
    const y = TOP + index * ROW;
    const [from, to] = value < 1 ? [x(value), x(1)] : [x(1), x(value)];
    return (
      `<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end">${escaped(name)}</text>` +
      `<rect x="${from}" y="${y + 3}" width="${Math.max(1, to - from)}" height="${ROW - 6}" fill="${value < 1 ? '#c2571a' : '#2f6fb0'}"/>` +
      `<text x="${Math.max(to, x(1)) + 5}" y="${y + 13}">${value.toFixed(2)}</text>` +
      (dot === undefined ? '' : `<circle cx="${x(dot)}" cy="${y + ROW / 2}" r="3" fill="#222"/>`)
    );
  });
  const width = LEFT + PLOT + RIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${bottom + 12}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${LEFT}" y="22" font-size="15">${escaped(title)}</text>`,
    ...lines,
    ...rows,
    '</svg>\n',
  ].join('\n');
}
