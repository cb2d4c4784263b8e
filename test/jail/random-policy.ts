// Random policies, and what they mean by the book.
import { type Comparison, OPERATORS, type Policy, type Rule, type Verdict } from '../../src/jail/policy.ts';

export type Random = (limit: number) => number;

/** 64-bit numbers near which comparisons by halves go wrong. */
const EDGES = [
  0n,
  1n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x8000_0000_0000_0000n,
  2n ** 64n - 1n,
];

export function randomValue(random: Random): bigint {
  const edge = EDGES[random(EDGES.length)] as bigint;
  switch (random(4)) {
    case 0:
      return BigInt.asUintN(64, edge + BigInt(random(5) - 2));
    case 1:
      return (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32));
    case 2:
      return BigInt(random(16));
    default:
      return edge;
  }
}

function randomVerdict(random: Random): Verdict {
  const kind = (['allow', 'forbid', 'error'] as const)[random(3)] as Verdict['kind'];
  return kind === 'error' ? { kind, errno: random(200) } : { kind };
}

const several = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

export function randomRule(syscall: string, random: Random): Rule {
  if (random(4) === 0) return { syscall, any: [], otherwise: randomVerdict(random) };
  const comparison = (): Comparison => ({
    argument: random(6),
    operator: OPERATORS[random(OPERATORS.length)] as Comparison['operator'],
    value: randomValue(random),
  });
  const any = several(1 + random(4), () => several(1 + random(4), comparison));
  const otherwise = randomVerdict(random);
  // What is allowed under a condition is not allowed without it.
  return { syscall, any, otherwise: otherwise.kind === 'allow' ? { kind: 'forbid' } : otherwise };
}

/** Arguments that often meet the policy's numbers. */
export function randomArguments(rule: Rule | undefined, random: Random): bigint[] {
  const numbers = rule?.any.flat().map(({ value }) => value) ?? [];
  return several(6, () => {
    const near = numbers[random(numbers.length + 1)];
    return near === undefined ? randomValue(random) : BigInt.asUintN(64, near + BigInt(random(3) - 1));
  });
}

/** What a policy says of a call. */
export function verdictOf(policy: Policy, syscall: string, args: readonly bigint[]): Verdict {
  const rule = policy.find((each) => each.syscall === syscall);
  if (rule === undefined) return { kind: 'forbid' };
  const allowed = rule.any.some((all) => all.every((comparison) => holds(comparison, args)));
  return allowed ? { kind: 'allow' } : rule.otherwise;
}

function holds({ argument, operator, value }: Comparison, args: readonly bigint[]): boolean {
  const actual = args[argument] as bigint;
  switch (operator) {
    case '==':
      return actual === value;
    case '!=':
      return actual !== value;
    case '<':
      return actual < value;
    case '<=':
      return actual <= value;
    case '>':
      return actual > value;
    case '>=':
      return actual >= value;
    case '&':
      return (actual & value) !== 0n;
    case 'in':
      return (actual | value) === value;
  }
}

/** The policy as its file would have it. */
export function policyText(policy: Policy): string {
  return policy.map(({ syscall, any, otherwise }) => `${syscall}: ${filterText(any, otherwise)}\n`).join('');
}

function filterText(any: Rule['any'], otherwise: Verdict): string {
  const fallback = otherwise.kind === 'error' ? `return ${otherwise.errno}` : otherwise.kind === 'allow' ? '1' : 'kill';
  if (any.length === 0) return fallback;
  const condition = any
    .map((all) =>
      all.map(({ argument, operator, value }) => `arg${argument} ${operator} 0x${value.toString(16)}`).join(' && '),
    )
    .join(' || ');
  return otherwise.kind === 'error' ? `${condition}; ${fallback}` : condition;
}
