import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GdbServer } from '../../../src/vm/gdb/server.ts';
import { FakeTarget, MEMORY_START } from './fake-target.ts';
import { gdb, noGdb } from './gdb.ts';

const skip = noGdb ?? false;

async function debug(
  target: FakeTarget,
  commands: readonly string[],
  during?: (output: string, interrupt: () => void) => void,
): Promise<string> {
  const server = await GdbServer.listen(0, target);
  try {
    return await gdb(server.port, commands, during);
  } finally {
    server.close();
  }
}

test('gdb shows and changes every kind of register', { skip }, async () => {
  const target = new FakeTarget();
  const xsave = new DataView((target.states[0] as { xsave: Uint8Array<ArrayBuffer> }).xsave.buffer);
  // ST(0) = 1.0 in physical register 7, XMM1.
  xsave.setUint16(2, 7 << 11, true);
  xsave.setUint8(4, 0x80);
  xsave.setBigUint64(32, 1n << 63n, true);
  xsave.setUint16(40, 0x3fff, true);
  xsave.setBigUint64(160 + 16, 0x123456789abcdef0n, true);
  const output = await debug(target, [
    'info registers',
    'p $st0',
    'p $ftag',
    'p/x $xmm1.v2_int64',
    'info registers mxcsr',
    'p/x $fs_base',
    'p/x $k_gs_base',
    'info registers cr0 efer',
    'set $r9 = 0xfeedface',
    'set $eflags = 0x202',
    'set $xmm3.v2_int64[1] = 77',
    'set $st1 = 2.5',
    'set $cr2 = 0x5000',
    'set $gs_base = 0x7000',
    'p/x $r9',
  ]);
  assert.match(output, /^rax +0x101 /m);
  assert.match(output, /^rsp +0x808 /m);
  assert.match(output, /^rip +0xffffffff81000000/m);
  assert.match(output, /^eflags +0x246 +\[ PF ZF IF \]/m);
  assert.match(output, /^cs +0x8 /m);
  assert.match(output, /^fs_base +0x300000000 /m);
  assert.match(output, /^k_gs_base +0xffff888000000000/m);
  assert.match(output, /^cr0 +0x80050033 +\[ PE MP ET NE WP AM PG \]/m);
  assert.match(output, /^efer +0xd01 +\[ SCE LME LMA NXE \]/m);
  assert.match(output, /= 1$/m);
  // Register 7 holds a number, the others are empty.
  assert.match(output, /= 16383$/m);
  assert.match(output, /\{0x123456789abcdef0, 0x0\}/);
  assert.match(output, /^mxcsr +0x1f80 +\[ IM DM ZM OM UM PM \]/m);
  assert.match(output, /= 0xfeedface$/m);
  assert.doesNotMatch(output.replace(/^warning: No executable.*$/m, ''), /warning|error|unknown/i);
  const state = target.states[0];
  assert.ok(state);
  assert.equal(state.regs.r9, 0xfeedfacen);
  assert.equal(state.regs.rflags, 0x202n);
  assert.equal(state.sregs.cr2, 0x5000n);
  assert.equal(state.sregs.gs.base, 0x7000n);
  const written = new DataView(state.xsave.buffer);
  assert.equal(written.getBigUint64(160 + 3 * 16 + 8, true), 77n);
  assert.equal(written.getBigUint64(48, true), 0xa000000000000000n);
  assert.equal(written.getUint16(56, true), 0x4000);
  // What was not touched is as it was.
  assert.equal(state.regs.rax, 0x101n);
  assert.equal(written.getBigUint64(160 + 16, true), 0x123456789abcdef0n);
});

test('gdb reads, writes and disassembles memory', { skip }, async () => {
  const target = new FakeTarget();
  target.memory.set([0x48, 0x89, 0xd8, 0xc3], 0);
  // Bytes that the protocol escapes.
  target.memory.set([0x24, 0x23, 0x7d, 0x2a, 0x03, 0xff], 0x100);
  const output = await debug(target, [
    'x/2i $pc',
    `x/6xb ${MEMORY_START + 0x100n}`,
    `set {long}${MEMORY_START + 0x200n} = 0x7d2a23240a0b0c0d`,
    'x/xg 0x10',
    `dump binary memory /dev/null ${MEMORY_START} ${MEMORY_START + 0x2fffn}`,
    `x/xb ${MEMORY_START + 0x2fffn}`,
    `x/2xb ${MEMORY_START + 0x2fffn}`,
  ]);
  assert.match(output, /mov +%rbx,%rax/);
  assert.match(output, /0x24\s+0x23\s+0x7d\s+0x2a\s+0x03\s+0xff/);
  assert.match(output, /Cannot access memory at address 0x10/);
  assert.match(output, /Cannot access memory at address 0xffffffff81003000/);
  assert.equal(new DataView(target.memory.buffer).getBigUint64(0x200, true), 0x7d2a23240a0b0c0dn);
});

test('gdb steps, stops at breakpoints and watchpoints, and goes', { skip }, async () => {
  const target = new FakeTarget();
  const output = await debug(target, [
    'stepi',
    'stepi',
    'p/x $pc',
    `break *${MEMORY_START + 0x40n}`,
    'continue',
    'p/x $pc',
    `hbreak *${MEMORY_START + 0x50n}`,
    'continue',
    'info breakpoints',
    'delete',
    `watch *(char*)${target.writes}`,
    'continue',
    'delete',
    `awatch *(int*)${target.writes}`,
    'continue',
    'delete',
    'detach',
  ]);
  assert.match(output, /0xffffffff81000002/);
  assert.match(output, /Breakpoint 1, 0xffffffff81000040/);
  assert.match(output, /Breakpoint 2, 0xffffffff81000050/);
  assert.match(output, /breakpoint already hit 1 time/);
  assert.match(output, /Hardware watchpoint 3/);
  assert.match(output, /Old value = /);
  assert.match(output, /Hardware access \(read\/write\) watchpoint 4/);
  assert.deepEqual(target.points, { breakpoints: [], watchpoints: [] });
  assert.equal(target.running, true);
  target.pause();
});

test("Ctrl-C stops a running machine, and the machine's refusal reaches the user", { skip }, async () => {
  const target = new FakeTarget();
  target.limit = 0;
  let sent = false;
  const output = await debug(
    target,
    ['break *1', 'continue', 'delete', 'continue', 'p/x $pc', 'echo done\\n'],
    (text, interrupt) => {
      if (sent || !text.includes('Cannot insert')) return;
      sent = true;
      setTimeout(interrupt, 300);
    },
  );
  assert.match(output, /Cannot insert breakpoint 1/);
  assert.match(output, /SIGINT/);
  assert.match(output, /done/);
});

test('gdb kills the machine, and hears of its end', { skip }, async () => {
  const killed = new FakeTarget();
  await debug(killed, ['kill']);
  assert.equal(killed.killed, true);
  const ended = new FakeTarget();
  const timer = setInterval(() => {
    if (ended.running) ended.listener?.ended(3);
  }, 20);
  const output = await debug(ended, ['continue', 'echo after\\n']);
  clearInterval(timer);
  ended.running = false;
  assert.match(output, /exited with code 03/);
  assert.match(output, /after/);
});

test('vCPUs are threads', { skip }, async () => {
  const target = new FakeTarget(3);
  const output = await debug(target, [
    'info threads',
    'thread 2',
    'p/x $rax',
    'set scheduler-locking on',
    'stepi',
    'detach',
  ]);
  assert.match(output, /Thread 3 \(vCPU 2\)/);
  assert.match(output, /0x1111222200000101/);
  assert.deepEqual(target.resumed[0], [[1, 'step']]);
  target.pause();
});
