/** Operators that rearrange elements; `symbolic.test.ts` proves them for open dimensions. */
import { prove } from '../testing/prove.js';
import { layoutCases } from './testing/layout.js';

prove(layoutCases);
