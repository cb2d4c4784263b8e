/** The requests of the control socket, as docs/openapi.json describes them: each a method, a path and what it does. */

import { adjustedTarget } from './balloon.ts';
import { ControlError, type ControlledMachine, type DiskControl } from './machine.ts';
import { metricsText } from './metrics.ts';
import { collectStatistics } from './statistics.ts';

/** What is answered: JSON, but for text. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
  /** Called when the answer has been sent. */
  readonly afterwards?: () => void;
}

type Handler = (
  machine: ControlledMachine,
  body: unknown,
  parameters: Readonly<Record<string, string>>,
) => Promise<Answer>;

interface Route {
  /** `/disks/{name}`: a part in braces is a parameter. */
  readonly path: string;
  readonly methods: Readonly<Record<string, Handler>>;
}

const PAGE = 4096;
const SECTOR = 512;

const ok = (body: unknown): Answer => ({ status: 200, body });
const state = (machine: ControlledMachine): Answer => ok({ state: machine.state });

export const ROUTES: readonly Route[] = [
  {
    path: '/machine',
    methods: {
      GET: async (machine) => ok({ pid: process.pid, state: machine.state, ...machine.description }),
    },
  },
  {
    path: '/machine/memory',
    methods: { GET: async (machine) => ok({ regions: machine.memory }) },
  },
  {
    path: '/machine/pause',
    methods: {
      POST: async (machine, body) => {
        fields(body, {});
        notEnding(machine);
        await machine.pause();
        return state(machine);
      },
    },
  },
  {
    path: '/machine/resume',
    methods: {
      POST: async (machine, body) => {
        fields(body, {});
        notEnding(machine);
        machine.resume();
        return state(machine);
      },
    },
  },
  {
    path: '/machine/exit',
    methods: {
      POST: async (machine, body) => {
        fields(body, {});
        return { status: 202, body: { state: 'ending' }, afterwards: () => machine.exit() };
      },
    },
  },
  {
    path: '/balloon',
    methods: {
      GET: async (machine) => balloon(machine),
      PUT: async (machine, body) => {
        const { size } = fields(body, { size: integer });
        return setBalloon(machine, size);
      },
      PATCH: async (machine, body) => {
        const { adjust } = fields(body, { adjust: integer });
        multiple(Math.abs(adjust), PAGE, 'adjust');
        return setBalloon(machine, adjustedTarget(balloonOf(machine), adjust));
      },
    },
  },
  {
    path: '/balloon/reclaim',
    methods: {
      POST: async (machine, body) => {
        fields(body, {});
        const device = balloonOf(machine);
        if (machine.state !== 'running') throw new ControlError(409, 'a guest that does not run gives nothing');
        return ok({ size: await device.reclaim() });
      },
    },
  },
  {
    path: '/disks',
    methods: { GET: async (machine) => ok({ disks: machine.disks.map(describeDisk) }) },
  },
  {
    path: '/disks/{name}',
    methods: {
      GET: async (machine, _, { name }) => ok(describeDisk(diskOf(machine, name))),
      PATCH: async (machine, body, { name }) => {
        const disk = diskOf(machine, name);
        const { size } = fields(body, { size: integer });
        multiple(size, SECTOR, 'size');
        if (size === 0) throw new ControlError(400, 'size: a disk has at least 512 bytes');
        notEnding(machine);
        await disk.resize(size);
        return ok(describeDisk(disk));
      },
    },
  },
  {
    path: '/statistics',
    methods: { GET: async (machine) => ok(await collectStatistics(machine)) },
  },
  {
    path: '/metrics',
    methods: { GET: async (machine) => ok(metricsText(await collectStatistics(machine))) },
  },
];

/** The route of a path, with the path's parameters; undefined: there is none. */
export function findRoute(
  path: string,
): { readonly route: Route; readonly parameters: Record<string, string> } | undefined {
  const parts = path.split('/');
  for (const route of ROUTES) {
    const pattern = route.path.split('/');
    if (pattern.length !== parts.length) continue;
    const parameters: Record<string, string> = {};
    const matches = pattern.every((word, i) => {
      const part = parts[i]!;
      if (!word.startsWith('{')) return word === part;
      parameters[word.slice(1, -1)] = part;
      return part !== '';
    });
    if (matches) return { route, parameters };
  }
  return undefined;
}

// ---- Bodies --------------------------------------------------------------------------------------------------------------

type FieldReader<T> = (value: unknown, name: string) => T;

/** Reads an object that has exactly these fields; nothing at all is as good as an object without any. Throws ControlError. */
function fields<T extends Record<string, FieldReader<unknown>>>(
  body: unknown,
  readers: T,
): { [K in keyof T]: ReturnType<T[K]> } {
  const object = body === undefined ? {} : body;
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    throw new ControlError(400, 'the body is no JSON object');
  }
  const surplus = Object.keys(object).find((name) => !Object.hasOwn(readers, name));
  if (surplus !== undefined) throw new ControlError(400, `${surplus.slice(0, 40)}: there is no such field`);
  const entries = Object.entries(readers).map(([name, read]) => [
    name,
    read((object as Record<string, unknown>)[name], name),
  ]);
  return Object.fromEntries(entries);
}

function integer(value: unknown, name: string): number {
  if (!Number.isSafeInteger(value)) throw new ControlError(400, `${name}: it takes a whole number of bytes`);
  return value as number;
}

function multiple(value: number, unit: number, name: string): void {
  if (value < 0 || value % unit !== 0) throw new ControlError(400, `${name}: it takes a multiple of ${unit} bytes`);
}

// ---- Parts of a machine --------------------------------------------------------------------------------------------------

function notEnding(machine: ControlledMachine): void {
  if (machine.state === 'ending') throw new ControlError(409, 'the machine is about to end');
}

function balloonOf(machine: ControlledMachine): NonNullable<ControlledMachine['balloon']> {
  if (machine.balloon === undefined) throw new ControlError(404, 'the machine has no balloon');
  return machine.balloon;
}

function balloon(machine: ControlledMachine): Answer {
  const { target, actual, maximum } = balloonOf(machine);
  return ok({ size: target, actual, maximum });
}

async function setBalloon(machine: ControlledMachine, size: number): Promise<Answer> {
  const device = balloonOf(machine);
  multiple(size, PAGE, 'size');
  if (size > device.maximum) {
    throw new ControlError(400, `size: the balloon of this machine takes ${device.maximum} bytes at most`);
  }
  notEnding(machine);
  await device.setTarget(size);
  return balloon(machine);
}

function diskOf(machine: ControlledMachine, name: string | undefined): DiskControl {
  const disk = machine.disks.find((other) => other.name === name);
  if (disk === undefined) throw new ControlError(404, 'the machine has no such disk');
  return disk;
}

function describeDisk({ name, path, writable, size }: DiskControl): unknown {
  return { name, path, writable, size };
}
