/** All cases, for the tests that run for every operator. */
import type { OperatorCase } from '../../testing/operator-case.js';
import { angleCases } from './angles.js';
import { attentionCases } from './attention.js';
import { binaryCases } from './binary.js';
import { constantCases } from './constant.js';
import { convolutionCases } from './convolution.js';
import { convolution2dCases } from './convolution2d.js';
import { decayedProductsCases } from './decayed-products.js';
import { expertCases } from './experts.js';
import { indexingCases } from './indexing.js';
import { inverseCases } from './inverse.js';
import { layoutCases } from './layout.js';
import { linearSystemCases } from './linear-system.js';
import { matmulCases } from './matmul.js';
import { normalizeCases } from './normalize.js';
import { recurrenceCases } from './recurrence.js';
import { reduceCases } from './reduce.js';
import { scanCases } from './scan.js';
import { selectiveScanCases } from './selective-scan.js';
import { triangularCases } from './triangular.js';
import { unaryCases } from './unary.js';

const TABLES = [
  angleCases,
  attentionCases,
  binaryCases,
  constantCases,
  convolutionCases,
  convolution2dCases,
  decayedProductsCases,
  expertCases,
  indexingCases,
  inverseCases,
  layoutCases,
  linearSystemCases,
  matmulCases,
  normalizeCases,
  recurrenceCases,
  reduceCases,
  scanCases,
  selectiveScanCases,
  triangularCases,
  unaryCases,
];

/** The cases that prove an operator. */
export function casesOf(operator: string): readonly OperatorCase[] {
  return TABLES.flatMap((table) => table[operator] ?? []);
}

/** All cases by the operator that they prove. */
export function allCases(): ReadonlyMap<string, readonly OperatorCase[]> {
  const all = new Map<string, OperatorCase[]>();
  for (const table of TABLES) {
    for (const [operator, cases] of Object.entries(table)) {
      all.set(operator, [...(all.get(operator) ?? []), ...cases]);
    }
  }
  return all;
}
