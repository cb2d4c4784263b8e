// Each form of the integer instructions, interpreted, against this machine's processor.
import { BuiltInTarget } from './built-in-target.ts';
import { testForms } from './harness.ts';
import { integerForms, stackForms, stringForms } from './tables/integer.ts';

testForms([...integerForms, ...stackForms, ...stringForms], () => new BuiltInTarget('none'));
