import type { SharedRange } from '../../host/shared-state.ts';
import type { IrqRoute } from '../hypervisor.ts';

/** GSIs are below this. */
export const MAX_GSI = 1024;
/** Most routes of a table. */
export const MAX_ROUTES = 2048;

const ROUTE_WORDS = 8;
const KIND = 0;
const PIN = 1;
const ADDRESS_LOW = 2;
const ADDRESS_HIGH = 3;
const DATA = 4;
/** Number + 1 of the next route of the same GSI, 0: none. */
const NEXT = 5;

const KIND_PIC = 1;
const KIND_IOAPIC = 2;
const KIND_MSI = 3;

/** Bytes of shared state: the first route of each GSI, then the routes. */
export const ROUTING_STATE_SIZE = (MAX_GSI + MAX_ROUTES * ROUTE_WORDS) * 4;

/** Where an interrupt line's level goes. */
export interface RouteTarget {
  /** Input of the 8259 pair, 0 to 15. */
  pic(input: number, level: boolean): void;
  /** Pin of the I/O APIC, 0 to 23. */
  ioapic(pin: number, level: boolean): void;
  /** A message, for the line's rise. */
  msi(addressLow: number, addressHigh: number, data: number): void;
}

/** KVM's and the PC's table: GSIs 0 to 15 to the 8259 pair and the I/O APIC (GSI 0 at pin 2), 16 to 23 to the I/O APIC. */
export function defaultRouting(): IrqRoute[] {
  const routes: IrqRoute[] = [];
  for (let gsi = 0; gsi < 24; gsi++) {
    // Input 2 of the master is the cascade; its pin of the I/O APIC is the timer's.
    if (gsi === 2) continue;
    if (gsi < 16) routes.push({ gsi, kind: 'irqchip', chip: gsi < 8 ? 'pic-master' : 'pic-slave', pin: gsi & 7 });
    routes.push({ gsi, kind: 'irqchip', chip: 'ioapic', pin: gsi === 0 ? 2 : gsi });
  }
  return routes;
}

/** The GSI routing table. Every call needs the interrupt chip's lock held. */
export class Routing {
  readonly #words: Int32Array;

  constructor(range: SharedRange) {
    this.#words = new Int32Array(range.buffer, range.offset, ROUTING_STATE_SIZE / 4);
  }

  /** Replaces the table. Throws RangeError for a GSI or pin out of range, or too many routes; the table is then as it was. */
  set(routes: readonly IrqRoute[]): void {
    if (routes.length > MAX_ROUTES) throw new RangeError(`${routes.length} interrupt routes; at most ${MAX_ROUTES}`);
    for (const route of routes) checkRoute(route);
    this.#words.fill(0);
    // Backwards, so that the chains have the order of the table.
    for (let i = routes.length - 1; i >= 0; i--) this.#store(i, routes[i] as IrqRoute);
  }

  /** Gives a line's level to all its targets. Returns false when the GSI has no route. */
  forward(gsi: number, level: boolean, target: RouteTarget): boolean {
    if (!(gsi >= 0 && gsi < MAX_GSI)) return false;
    const words = this.#words;
    const first = words[gsi] as number;
    for (let number = first; number !== 0; ) {
      const at = MAX_GSI + (number - 1) * ROUTE_WORDS;
      const pin = words[at + PIN] as number;
      switch (words[at + KIND]) {
        case KIND_PIC:
          target.pic(pin, level);
          break;
        case KIND_IOAPIC:
          target.ioapic(pin, level);
          break;
        default:
          if (level) {
            target.msi(
              (words[at + ADDRESS_LOW] as number) >>> 0,
              (words[at + ADDRESS_HIGH] as number) >>> 0,
              (words[at + DATA] as number) >>> 0,
            );
          }
      }
      number = words[at + NEXT] as number;
    }
    return first !== 0;
  }

  /** The routes that make messages. */
  messages(): IrqRoute[] {
    const words = this.#words;
    const routes: IrqRoute[] = [];
    for (let gsi = 0; gsi < MAX_GSI; gsi++) {
      for (let number = words[gsi] as number; number !== 0; ) {
        const at = MAX_GSI + (number - 1) * ROUTE_WORDS;
        const word = (index: number): number => (words[at + index] as number) >>> 0;
        const address = (BigInt(word(ADDRESS_HIGH)) << 32n) | BigInt(word(ADDRESS_LOW));
        if (word(KIND) === KIND_MSI) routes.push({ gsi, kind: 'msi', msi: { address, data: word(DATA) } });
        number = word(NEXT);
      }
    }
    return routes;
  }

  #store(index: number, route: IrqRoute): void {
    const words = this.#words;
    const at = MAX_GSI + index * ROUTE_WORDS;
    if (route.kind === 'msi') {
      words[at + KIND] = KIND_MSI;
      words[at + ADDRESS_LOW] = Number(route.msi.address & 0xffff_ffffn) | 0;
      words[at + ADDRESS_HIGH] = Number((route.msi.address >> 32n) & 0xffff_ffffn) | 0;
      words[at + DATA] = route.msi.data | 0;
    } else {
      words[at + KIND] = route.chip === 'ioapic' ? KIND_IOAPIC : KIND_PIC;
      words[at + PIN] = route.chip === 'pic-slave' ? 8 + route.pin : route.pin;
    }
    words[at + NEXT] = words[route.gsi] as number;
    words[route.gsi] = index + 1;
  }
}

function checkRoute(route: IrqRoute): void {
  if (!Number.isInteger(route.gsi) || route.gsi < 0 || route.gsi >= MAX_GSI) {
    throw new RangeError(`GSI ${route.gsi} is not in 0 to ${MAX_GSI - 1}`);
  }
  if (route.kind === 'msi') return;
  const pins = route.chip === 'ioapic' ? 24 : 8;
  if (!Number.isInteger(route.pin) || route.pin < 0 || route.pin >= pins) {
    throw new RangeError(`${route.chip} has no pin ${route.pin}`);
  }
}
