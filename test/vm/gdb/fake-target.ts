import type { Regs, Segment, Sregs } from '../../../src/hypervisor/hypervisor.ts';
import type {
  CpuState,
  DebugTarget,
  ResumeAction,
  Stop,
  StopPoints,
  StopReason,
  TargetListener,
} from '../../../src/vm/gdb/target.ts';

/** Linear address of the memory, and its bytes. */
export const MEMORY_START = 0xffffffff81000000n;
export const MEMORY_SIZE = 0x3000;

const segment = (selector: number, base = 0n): Segment => ({
  base,
  limit: 0xffffffff,
  selector,
  type: 11,
  present: true,
  dpl: 0,
  db: false,
  s: true,
  l: true,
  g: true,
  avl: false,
  unusable: false,
});

/** vCPUs whose only instruction is NOP, one byte long; a step of vCPU 0 also writes the byte at `writes`. */
export class FakeTarget implements DebugTarget {
  listener: TargetListener | undefined;
  stop: Stop | undefined = { vcpu: 0, reason: { kind: 'paused' } };
  readonly vcpuCount: number;
  readonly memory = new Uint8Array(MEMORY_SIZE);
  readonly states: CpuState[];
  points: StopPoints = { breakpoints: [], watchpoints: [] };
  /** Most breakpoints it takes. */
  limit = 4;
  writes = MEMORY_START + 0x2000n;
  killed = false;
  running = false;
  /** Times resume() was called, with its actions. */
  readonly resumed: [number, ResumeAction][][] = [];

  constructor(vcpuCount = 1) {
    this.vcpuCount = vcpuCount;
    this.states = Array.from({ length: vcpuCount }, (_, vcpu) => {
      const regs = Object.fromEntries(
        [
          'rax',
          'rbx',
          'rcx',
          'rdx',
          'rsi',
          'rdi',
          'rbp',
          'rsp',
          'r8',
          'r9',
          'r10',
          'r11',
          'r12',
          'r13',
          'r14',
          'r15',
        ].map((name, i) => [name, 0x1111_2222_0000_0000n * BigInt(vcpu) + BigInt(i + 1) * 0x101n]),
      );
      const sregs = Object.fromEntries(
        ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'].map((name, i) => [
          name,
          segment(8 * (i + 1), BigInt(i) << 32n),
        ]),
      );
      const xsave = new Uint8Array(576);
      new DataView(xsave.buffer).setUint16(0, 0x37f, true);
      new DataView(xsave.buffer).setUint32(24, 0x1f80, true);
      return {
        regs: { ...regs, rip: MEMORY_START, rflags: 0x246n } as unknown as Regs,
        sregs: {
          ...sregs,
          gdt: { base: 0n, limit: 0 },
          idt: { base: 0n, limit: 0 },
          cr0: 0x80050033n,
          cr2: 0xdeadn,
          cr3: 0x1000n,
          cr4: 0x6b0n,
          cr8: 0n,
          efer: 0xd01n,
          apicBase: 0n,
        } as unknown as Sregs,
        xsave,
        kernelGsBase: 0xffff888000000000n,
      };
    });
    this.memory.fill(0x90);
  }

  async getState(vcpu: number): Promise<CpuState> {
    return structuredClone(this.states[vcpu] as CpuState);
  }

  async setState(vcpu: number, state: CpuState): Promise<void> {
    this.states[vcpu] = structuredClone(state);
  }

  async readMemory(_vcpu: number, address: bigint, length: number): Promise<Uint8Array> {
    const offset = Number(address - MEMORY_START);
    return offset >= 0 ? this.memory.slice(offset, offset + length) : new Uint8Array();
  }

  async writeMemory(_vcpu: number, address: bigint, bytes: Uint8Array): Promise<void> {
    const offset = Number(address - MEMORY_START);
    if (offset < 0 || offset + bytes.length > MEMORY_SIZE) throw new RangeError('not mapped');
    this.memory.set(bytes, offset);
  }

  async setStopPoints(points: StopPoints): Promise<void> {
    if (points.breakpoints.length > this.limit) throw new RangeError('too many');
    this.points = points;
  }

  resume(actions: ReadonlyMap<number, ResumeAction>): void {
    this.resumed.push([...actions]);
    this.stop = undefined;
    this.running = true;
    const [vcpu, action] = [...actions][0] as [number, ResumeAction];
    setImmediate(() => this.#run(vcpu, action));
  }

  #run(vcpu: number, action: ResumeAction): void {
    const { regs } = this.states[vcpu] as CpuState;
    for (let steps = 0; this.running && steps < 200; steps++) {
      if (this.points.breakpoints.includes(regs.rip)) return this.halt(vcpu, { kind: 'breakpoint', address: regs.rip });
      regs.rip++;
      const hit = this.points.watchpoints.find(
        ({ address, length }) => this.writes >= address && this.writes < address + BigInt(length),
      );
      this.memory[Number(this.writes - MEMORY_START)] = steps + 1;
      if (hit !== undefined) return this.halt(vcpu, { kind: 'watchpoint', watchpoint: hit });
      if (action === 'step') return this.halt(vcpu, { kind: 'step' });
    }
    // A test that failed leaves the machine running: it must not keep the process.
    if (this.running) setTimeout(() => this.#run(vcpu, action), 1).unref();
  }

  halt(vcpu: number, reason: StopReason): void {
    this.running = false;
    this.stop = { vcpu, reason };
    this.listener?.stopped(this.stop);
  }

  pause(): void {
    if (this.running) this.halt(0, { kind: 'paused' });
  }

  kill(): void {
    this.killed = true;
    this.listener?.ended(0);
  }
}
