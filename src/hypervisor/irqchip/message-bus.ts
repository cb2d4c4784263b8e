import * as A from './lapic-registers.ts';
import type { LapicState } from './lapic-state.ts';

/** An interrupt message between the APICs. */
export interface InterruptMessage {
  readonly destination: number;
  readonly logical: boolean;
  /** DELIVERY_*. */
  readonly mode: number;
  readonly vector: number;
  readonly level: boolean;
  /** The destination is 32 bits wide: sent by a local APIC in x2APIC mode. */
  readonly wide: boolean;
}

/** Does the message's destination name this APIC? */
export function matchesDestination(apic: LapicState, message: InterruptMessage): boolean {
  const { destination, wide } = message;
  if (destination === (wide ? 0xffff_ffff : 0xff)) return true;
  if (!message.logical) return destination === apic.apicId;
  const ldr = apic.register(A.APIC_LDR);
  if (apic.x2apic) {
    return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
  }
  if (destination > 0xff) return false;
  const id = ldr >>> 24;
  if (apic.register(A.APIC_DFR) >>> 28 === 0xf) return (id & destination) !== 0;
  return id >> 4 === destination >> 4 && (id & destination & 0xf) !== 0;
}

/** What joins the local APICs, the I/O APIC and message-signalled interrupts. */
export class MessageBus {
  readonly #apics: readonly LapicState[];

  constructor(apics: readonly LapicState[]) {
    this.#apics = apics;
  }

  /** Delivers to all APICs named, or for lowest priority to one of them. Returns false when none took it. */
  send(message: InterruptMessage): boolean {
    if (message.mode === A.DELIVERY_LOWEST) return this.#sendLowest(message);
    let taken = false;
    for (const apic of this.#apics) {
      if (apic.hardwareEnabled && matchesDestination(apic, message)) {
        taken = apic.accept(message.mode, message.vector, message.level) || taken;
      }
    }
    return taken;
  }

  /** Delivers to every APIC but `except` (undefined: to all). */
  broadcast(mode: number, vector: number, except: LapicState | undefined): void {
    for (const apic of this.#apics) if (apic !== except) apic.accept(mode, vector, false);
  }

  #sendLowest(message: InterruptMessage): boolean {
    let best: LapicState | undefined;
    let bestPriority = 0;
    for (const apic of this.#apics) {
      if (!apic.hardwareEnabled || !apic.softwareEnabled || !matchesDestination(apic, message)) continue;
      const priority = apic.processorPriority() >> 4;
      if (
        best === undefined ||
        priority < bestPriority ||
        (priority === bestPriority && apic.lowestPriorityCount < best.lowestPriorityCount)
      ) {
        best = apic;
        bestPriority = priority;
      }
    }
    return best?.accept(A.DELIVERY_LOWEST, message.vector, message.level) ?? false;
  }
}
