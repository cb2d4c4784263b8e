import type { ProcessorCounts } from '../../cpu/x86_64/processor.ts';

/** A processor's counts by names for people. `haltedTime` in milliseconds. */
export function describeCounts(counts: ProcessorCounts, haltedTime: number): Readonly<Record<string, number>> {
  const { instructions, translated, regions } = counts;
  return {
    '  halted ms': haltedTime,
    '  decoding ms': counts.decodeTime,
    instructions,
    '  translated': translated,
    '  interpreted': instructions - translated,
    'decoded blocks': counts.decodedBlocks,
    'decoded instructions': counts.decodedInstructions,
    'invalidated blocks': counts.invalidatedBlocks,
    ...(regions && {
      'regions asked for': regions.requested,
      'regions installed': regions.installed,
      'regions translated by earlier runs': regions.kept,
      'regions compiled by TurboFan': regions.improved,
      'translated guest instructions': regions.instructions,
      'WebAssembly of regions, bytes': regions.bytes,
      'WebAssembly modules': regions.modules,
      'translating, beside the processor ms': regions.milliseconds,
    }),
    'TLB misses': counts.tlbMisses,
    'TLB flushes': counts.tlbFlushes,
    exceptions: counts.exceptions,
    interrupts: counts.interrupts,
  };
}
