import assert from 'node:assert/strict';
import { ManualClock } from '../../../src/host/clock.ts';
import { type CpuInterrupts, Irqchip } from '../../../src/hypervisor/irqchip/irqchip.ts';

/** Where the I/O APIC's page is. */
export const IOAPIC = 0xfec00000;

/** An interrupt chip under test, with the accesses a guest would make. */
export class TestMachine {
  readonly clock = new ManualClock();
  readonly chip: Irqchip;
  readonly cpus: CpuInterrupts[];

  constructor(vcpuCount = 1) {
    this.chip = Irqchip.create({ vcpuCount, tscHz: 2_000_000_000, physicalAddressBits: 40 }, this.clock);
    this.cpus = Array.from({ length: vcpuCount }, (_, id) => this.chip.cpu(id));
  }

  cpu(id = 0): CpuInterrupts {
    return this.cpus[id] as CpuInterrupts;
  }

  /** Turns on the local APICs, in xAPIC mode. */
  enable(): void {
    for (const cpu of this.cpus) cpu.mmioWrite(0xf0, 0x1ff);
  }

  /** Puts the local APICs into x2APIC mode and turns them on. */
  enableX2(): void {
    for (const cpu of this.cpus) {
      cpu.writeBase(cpu.apicBase | 0x400n);
      cpu.msrWrite(0x80f, 0x1ffn);
    }
  }

  advance(nanoseconds: number): void {
    this.clock.advance(nanoseconds);
    for (const cpu of this.cpus) cpu.advance(this.clock.now());
  }

  in(port: number): number {
    const data = new Uint8Array(1);
    this.chip.portRead(port, data);
    return data[0] as number;
  }

  out(port: number, value: number): void {
    this.chip.portWrite(port, Uint8Array.of(value));
  }

  redirect(pin: number, low: number, high = 0): void {
    this.ioapicOut(0x11 + pin * 2, high);
    this.ioapicOut(0x10 + pin * 2, low);
  }

  ioapicOut(index: number, value: number): void {
    this.ioapicWrite(0, index);
    this.ioapicWrite(0x10, value);
  }

  ioapicIn(index: number): number {
    this.ioapicWrite(0, index);
    return this.ioapicRead(0x10);
  }

  /** A register in the page of the I/O APIC. */
  ioapicWrite(offset: number, value: number): void {
    assert.ok(this.chip.ioapicAccess(IOAPIC + offset, new Uint8Array(Uint32Array.of(value).buffer), true));
  }

  ioapicRead(offset: number): number {
    const word = new Uint32Array(1);
    assert.ok(this.chip.ioapicAccess(IOAPIC + offset, new Uint8Array(word.buffer), false));
    return word[0] as number;
  }

  /** Vectors the vCPU takes and ends now, in order. */
  drain(id = 0): number[] {
    const vectors: number[] = [];
    for (;;) {
      const vector = this.cpu(id).acknowledge();
      if (vector < 0) return vectors;
      vectors.push(vector);
      this.cpu(id).mmioWrite(0xb0, 0);
    }
  }

  /** The 8259 pair as PCs set it up: vectors 0x20 and 0x28, nothing masked. */
  initPics(icw4 = 1): void {
    for (const [port, base, cascade] of [
      [0x20, 0x20, 4],
      [0xa0, 0x28, 2],
    ] as const) {
      this.out(port, 0x11);
      this.out(port + 1, base);
      this.out(port + 1, cascade);
      this.out(port + 1, icw4);
      this.out(port + 1, 0);
    }
  }

  /** Lets the 8259's interrupts through vCPU 0's LINT0. */
  openLint0(): void {
    this.enable();
    this.cpu().mmioWrite(0x350, 0x700);
  }
}
