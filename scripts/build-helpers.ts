// Compiles the processor's helpers (AssemblyScript) to build/helpers.wasm.
import { assemble } from './assemblyscript.ts';

// Static data goes to HELPER_DATA (layout.ts); the rest of the memory is laid out there.
await assemble('src/cpu/x86_64/helpers/index.ts', 'build/helpers.wasm', '16', '--memoryBase', '65536');
