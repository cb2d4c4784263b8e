/** A machine of nothing, for the sockets' tests. */
import {
  type BalloonControl,
  ControlError,
  type ControlledMachine,
  type DiskControl,
  type MachineState,
} from '../../src/control/machine.ts';

const MIB = 2 ** 20;

class FakeBalloon implements BalloonControl {
  target = 0;
  actual = 0;
  readonly maximum = 128 * MIB;
  async setTarget(size: number): Promise<void> {
    this.target = size;
  }
  async reclaim(): Promise<number> {
    return 20 * MIB;
  }
  async statistics(): Promise<Record<string, number>> {
    return { 'free-memory': 12 * MIB };
  }
}

class FakeDisk implements DiskControl {
  readonly name: string;
  readonly path = '/images/"a\\b\n".qcow2';
  readonly writable = true;
  size = 8 * MIB;
  constructor(name: string) {
    this.name = name;
  }
  async resize(size: number): Promise<void> {
    if (size < this.size) throw new ControlError(409, `${this.name}: it is in use`);
    this.size = size;
  }
  async statistics(): Promise<Record<string, number>> {
    return { reads: 1, writes: 2 };
  }
}

export class FakeMachine implements ControlledMachine {
  readonly description = { kernel: '/boot/vmlinuz', hypervisor: 'soft', cpus: 2, memory: 256 * MIB };
  readonly memory = [{ guestAddress: 0, size: 256 * MIB }];
  readonly balloon: FakeBalloon | undefined;
  readonly disks: readonly FakeDisk[];
  state: MachineState = 'running';
  exits = 0;

  constructor(parts: { readonly bare?: boolean } = {}) {
    this.balloon = parts.bare ? undefined : new FakeBalloon();
    this.disks = parts.bare ? [] : [new FakeDisk('vda'), new FakeDisk('vdb')];
  }

  processors(): { readonly userSeconds: number; readonly systemSeconds: number }[] {
    return [
      { userSeconds: 1.25, systemSeconds: 0.5 },
      { userSeconds: 0, systemSeconds: 0 },
    ];
  }
  async pause(): Promise<void> {
    this.state = 'paused';
  }
  resume(): void {
    this.state = 'running';
  }
  exit(): void {
    this.exits++;
    this.state = 'ending';
  }
}
