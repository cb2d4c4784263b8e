// Makes build/device-process.cjs, the code of jailed devices, and a list of its sources, from the project's root.

import { mkdirSync, writeFileSync } from 'node:fs';
import { bundle } from './bundle.ts';

const output = 'build/device-process.cjs';
mkdirSync('build', { recursive: true });
const sources = await bundle('src/vm/jailed-backend.ts', output);
writeFileSync(`${output}.sources`, sources.join('\n'));
