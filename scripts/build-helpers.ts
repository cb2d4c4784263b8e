// Compiles the processor's helpers (AssemblyScript) to build/helpers.wasm.
import { mkdirSync } from 'node:fs';
import asc from 'assemblyscript/asc';

mkdirSync('build', { recursive: true });
const { error, stderr } = await asc.main([
  'src/cpu/x86_64/helpers/index.ts',
  '--outFile',
  'build/helpers.wasm',
  '--optimizeLevel',
  '3',
  '--noAssert',
  '--runtime',
  'stub',
  '--importMemory',
  '--noExportMemory',
  '--initialMemory',
  '16',
  '--maximumMemory',
  '65536',
  // Static data goes to HELPER_DATA (layout.ts); the rest of the memory is laid out there.
  '--memoryBase',
  '65536',
  '--enable',
  'simd',
  // Addresses are u32 here: a cast says nothing.
  '--disableWarning',
  '201',
]);
if (error) {
  process.stderr.write(`${stderr.toString()}\n${error.message}\n`);
  process.exit(1);
}
