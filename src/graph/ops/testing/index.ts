/** All cases, for what must hold of every operator. */
import type { OperatorCase } from '../../testing/gradient-check.js';
import { arithmeticCases } from './arithmetic.js';
import { constantCases } from './constant.js';
import { convolutionCases } from './convolution.js';
import { elementwiseCases } from './elementwise.js';
import { indexingCases } from './indexing.js';
import { layoutCases } from './layout.js';
import { matmulCases } from './matmul.js';
import { normalizeCases } from './normalize.js';
import { recurrenceCases } from './recurrence.js';
import { reduceCases } from './reduce.js';

const TABLES = [
  arithmeticCases,
  constantCases,
  convolutionCases,
  elementwiseCases,
  indexingCases,
  layoutCases,
  matmulCases,
  normalizeCases,
  recurrenceCases,
  reduceCases,
];

/** The cases that prove an operator. */
export function casesOf(operator: string): readonly OperatorCase[] {
  return TABLES.flatMap((table) => table[operator] ?? []);
}
