/** Turns a table of cases into tests, one a case. */
import { describe, test } from 'vitest';
import { type CaseTable, checkOperator } from './gradient-check.js';

export function prove(table: CaseTable): void {
  for (const [operator, cases] of Object.entries(table)) {
    describe(operator, () => {
      for (const proof of cases) test(proof.name, () => checkOperator(operator, proof));
    });
  }
}
