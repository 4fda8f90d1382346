/** Turns a table of cases into tests: one a case for each executor. */
import { describe, test } from 'vitest';
import { checkOperator, cpu, stablehlo, wasm } from './gradient-check.js';
import type { CaseTable } from './operator-case.js';

/** Declares a test for each case on each executor: ONNX Runtime, the WebAssembly kernels, and StableHLO by the evaluator. */
export function prove(table: CaseTable): void {
  for (const [operator, cases] of Object.entries(table)) {
    describe(operator, () => {
      for (const proof of cases) {
        test(proof.name, async () => checkOperator(operator, proof, await cpu()));
        test(`${proof.name}, on wasm`, async () => checkOperator(operator, proof, await wasm()));
        test(`${proof.name}, as StableHLO`, async () => checkOperator(operator, proof, await stablehlo()));
      }
    });
  }
}
