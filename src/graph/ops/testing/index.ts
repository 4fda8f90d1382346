/** All cases, for what must hold of every operator. */
import type { OperatorCase } from '../../testing/gradient-check.js';
import { arithmeticCases } from './arithmetic.js';
import { constantCases } from './constant.js';
import { convolutionCases } from './convolution.js';
import { elementwiseCases } from './elementwise.js';
import { expertCases } from './experts.js';
import { indexingCases } from './indexing.js';
import { layoutCases } from './layout.js';
import { matmulCases } from './matmul.js';
import { normalizeCases } from './normalize.js';
import { recurrenceCases } from './recurrence.js';
import { reduceCases } from './reduce.js';
import { selectiveScanCases } from './selective-scan.js';

const TABLES = [
  arithmeticCases,
  constantCases,
  convolutionCases,
  elementwiseCases,
  expertCases,
  indexingCases,
  layoutCases,
  matmulCases,
  normalizeCases,
  recurrenceCases,
  reduceCases,
  selectiveScanCases,
];

/** The cases that prove an operator. */
export function casesOf(operator: string): readonly OperatorCase[] {
  return TABLES.flatMap((table) => table[operator] ?? []);
}
