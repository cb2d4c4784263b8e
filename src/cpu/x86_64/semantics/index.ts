// Brings the whole instruction table together. The order fixes the handlers' numbers.

import './arithmetic.ts';
import './shift.ts';
import './bits.ts';
import './move.ts';
import './stack.ts';
import './control-flow.ts';
import './string.ts';
import './system.ts';
import './fpu-state.ts';
import './x87.ts';
import './vector-move.ts';
import './vector-integer.ts';
import './vector-shuffle.ts';
import './vector-transfer.ts';
import './vector-float.ts';
import './vector-convert.ts';
import './vector-lanes.ts';
import './fma.ts';
import './crypto.ts';
import './string-compare.ts';

export {
  allLines,
  FIRST_HANDLER,
  handlerCount,
  type Line,
  type Shape,
  shapesOf,
} from './instruction.ts';
