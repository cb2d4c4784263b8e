import { mkdirSync } from 'node:fs';
import asc from 'assemblyscript/asc';

/**
 * Compiles AssemblyScript that works in a memory of the caller's, with no run-time system. Ends the process with the
 * compiler's messages when it fails. `initialMemory`: 64 KiB pages that the memory has at least.
 */
export async function assemble(
  source: string,
  output: string,
  initialMemory: string,
  ...options: string[]
): Promise<void> {
  mkdirSync('build', { recursive: true });
  const { error, stderr } = await asc.main([
    source,
    '--outFile',
    output,
    '--optimizeLevel',
    '3',
    '--noAssert',
    '--runtime',
    'stub',
    '--importMemory',
    '--noExportMemory',
    '--initialMemory',
    initialMemory,
    '--maximumMemory',
    '65536',
    '--enable',
    'simd',
    // Addresses are u32 here: a cast says nothing.
    '--disableWarning',
    '201',
    ...options,
  ]);
  if (error) {
    process.stderr.write(`${stderr.toString()}\n${error.message}\n`);
    process.exit(1);
  }
}
