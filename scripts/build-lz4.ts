// Compiles the decoder of LZ4 blocks (AssemblyScript) to build/lz4.wasm.
import { assemble } from './assemblyscript.ts';

// It has no static data: its memory is the caller's.
await assemble('src/arch/x86_64/kernel/assembly/lz4-block.ts', 'build/lz4.wasm', '1');
