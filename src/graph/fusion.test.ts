/** A fused ONNX operator and what it stands for give the same values and the same gradients. */
import { describe, expect, test } from 'vitest';
import { isComposite, operators, toOnnx } from './index.js';
import { casesOf } from './ops/testing/index.js';
import { relativeError } from './testing/arrays.js';
import { feedsOf, graphOf } from './testing/operator-case.js';
import { contains, runOnnx } from './testing/run-onnx.js';

interface Fusion {
  readonly operator: string;
  readonly opType: string;
  /** The names under which a device may offer it. */
  readonly names: readonly string[];
  /** Where a gradient is wanted, what the composite stands for is computed after all. */
  readonly withoutGradient?: true;
}

const FUSIONS: readonly Fusion[] = [
  { operator: 'silu', opType: 'QuickGelu', names: ['QuickGelu'] },
  {
    operator: 'causalConvolution',
    opType: 'CausalConvWithState',
    names: ['CausalConvWithState', 'CausalConvWithState+token'],
  },
  { operator: 'causalConvolution', opType: 'Conv', names: ['Conv'] },
  { operator: 'convolution2d', opType: 'Conv', names: ['Conv'] },
  // Small enough for one thread: from several at once the CPU's ScatterND loses sums.
  { operator: 'scatterRows', opType: 'ScatterND', names: ['ScatterND'] },
  { operator: 'matmul', opType: 'FusedMatMul', names: ['FusedMatMul'] },
  { operator: 'split', opType: 'Split', names: ['Split'] },
  { operator: 'reverse', opType: 'Slice', names: ['Slice'] },
  { operator: 'softmax', opType: 'Softmax', names: ['Softmax'] },
  { operator: 'logSoftmax', opType: 'LogSoftmax', names: ['LogSoftmax'] },
  {
    operator: 'rmsNorm',
    opType: 'SimplifiedLayerNormalization',
    names: ['SimplifiedLayerNormalization', 'SimplifiedLayerNormalization+inverse'],
  },
  { operator: 'sumOfSquares', opType: 'ReduceSumSquare', names: ['ReduceSumSquare'] },
  { operator: 'geluTanh', opType: 'FastGelu', names: ['FastGelu'], withoutGradient: true },
  {
    operator: 'linearRecurrence',
    opType: 'LinearAttention',
    names: ['LinearAttention'],
    withoutGradient: true,
  },
  { operator: 'selectiveScan', opType: 'LinearAttention', names: ['LinearAttention+channels'] },
  { operator: 'selectiveScan', opType: 'Loop', names: ['SelectiveScanLoop'] },
  { operator: 'experts', opType: 'MoE', names: ['MoE'], withoutGradient: true },
  { operator: 'experts', opType: 'NonZero', names: ['NonZero'], withoutGradient: true },
];

/** Attention is proved beside its operator, since its cases read a result that the kernel does not have, and a gradient with what it is of. */
const ELSEWHERE = ['attention', 'selectiveScanGradient'];

test('every composite with a lowering of its own is here', () => {
  const composites = [...operators().values()].filter(
    (operator) => isComposite(operator) && operator.kernels?.onnx,
  );
  const proved = [...ELSEWHERE, ...FUSIONS.map(({ operator }) => operator)];
  expect(proved).toEqual(expect.arrayContaining(composites.map(({ name }) => name)));
});

for (const { operator, opType, names, withoutGradient } of FUSIONS) {
  describe(`${operator} as ${opType}`, () => {
    for (const withGradients of [false, true]) {
      test(withGradients ? 'values and gradients' : 'values', async () => {
        let fusions = 0;
        for (const proof of casesOf(operator)) {
          const graph = graphOf(proof, withGradients);
          const fused = toOnnx(graph, { fused: new Set(names) });
          const expanded = toOnnx(graph);
          fusions += Number(contains(fused, opType));
          expect(contains(expanded, opType)).toBe(false);
          const actual = await runOnnx(fused, feedsOf(proof));
          const expected = await runOnnx(expanded, feedsOf(proof));
          for (const [name, { dims, data }] of Object.entries(expected)) {
            expect(actual[name]!.dims).toEqual(dims);
            expect(relativeError(actual[name]!.data, data), `${name} of ${proof.name}`).toBeLessThan(1e-5);
          }
        }
        expect(fusions > 0).toBe(!(withGradients && withoutGradient));
      });
    }
  });
}

test('a device with the fused norm, but without its inverse, gets it where nobody needs the inverse', () => {
  const [proof] = casesOf('rmsNorm');
  const fused = new Set(['SimplifiedLayerNormalization']);
  expect(contains(toOnnx(graphOf(proof!, false), { fused }), 'SimplifiedLayerNormalization')).toBe(true);
  expect(contains(toOnnx(graphOf(proof!, true), { fused }), 'SimplifiedLayerNormalization')).toBe(false);
});
