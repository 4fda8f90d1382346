/** Mixtures of experts: values and gradients, and what a device computes that has them fused. */

import { describe, expect, test } from 'vitest';
import type { HostTensor } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { input } from '../tensor.js';
import { elementwise, relativeError, toArray } from '../testing/arrays.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { reshape } from './broadcast.js';
import { add, multiply } from './elementwise.js';
import { type ExpertActivation, experts } from './experts.js';
import { loop } from './loop.js';
import { matmul } from './matmul.js';
import { expertCases, expertOperands, referenceExperts } from './testing/experts.js';

prove(expertCases);

const HIDDEN = 16;
const COUNT = 8;
const INNER = 12;
const PER_TOKEN = 3;

/** Three experts for each token, spread so that with few tokens some experts have none. */
function operandsFor(tokens: number, activation: ExpertActivation) {
  const sizes = { tokens, hidden: HIDDEN, count: COUNT, inner: INNER, activation };
  const chosen = Array.from({ length: tokens }, (_, t) => [
    t % COUNT,
    (3 * t + 1) % COUNT,
    (5 * t + 2) % COUNT,
  ]);
  const distinct = chosen.map((choice) => [...new Set(choice)]);
  const operands = expertOperands(sizes, distinct);
  return { sizes, operands };
}

function symbols(activation: ExpertActivation) {
  const rows = activation === 'swiglu' ? 2 * INNER : INNER;
  return {
    x: input('x', 'float32', ['batch', 'sequence', HIDDEN]),
    weights: input('weights', 'float32', ['batch', 'sequence', COUNT]),
    up: input('up', 'float32', [COUNT, rows, HIDDEN]),
    down: input('down', 'float32', [COUNT, HIDDEN, INNER]),
  };
}

describe.each(['swiglu', 'relu2'] as const)('%s', (activation) => {
  const { operands: constants } = operandsFor(1, activation);
  const weights = new Map<string, HostTensor>([
    ['up', constants[2]],
    ['down', constants[3]],
  ]);

  test('open batches and sequences, with the matrices as constants', async () => {
    const { x, weights: shares, up, down } = symbols(activation);
    const flat = { x: reshape(x, [-1, HIDDEN]), weights: reshape(shares, [-1, COUNT]), up, down };
    const y = reshape(experts(flat, { activation, perToken: PER_TOKEN }), x.shape);
    const executable = await (await cpu()).compile(withInputs({ outputs: { y }, weights }));
    for (const [batch, sequence] of [
      [1, 1],
      [2, 1],
      [3, 11],
    ] as const) {
      const { sizes, operands } = operandsFor(batch * sequence, activation);
      const results = await executable.run({
        x: { ...operands[0], dims: [batch, sequence, HIDDEN] },
        weights: { ...operands[1], dims: [batch, sequence, COUNT] },
      });
      expect(results.y!.dims).toEqual([batch, sequence, HIDDEN]);
      const expected = referenceExperts(sizes, operands.map(toArray));
      expect(relativeError(toArray(results.y!).data, expected.data)).toBeLessThan(1e-5);
    }
    await executable.dispose();
  });

  test('of tokens that nothing else needs, whose place a kernel could take for its result', async () => {
    const { sizes, operands } = operandsFor(5, activation);
    const [x, shares, up, down] = operands.map(({ dims }, i) => input(`${i}`, 'float32', dims));
    const tokens = multiply(x!, 1.5);
    const y = experts(
      { x: tokens, weights: shares!, up: up!, down: down! },
      { activation, perToken: PER_TOKEN },
    );
    const executable = await (await cpu()).compile(withInputs({ outputs: { y } }));
    const results = await executable.run(Object.fromEntries(operands.map((value, i) => [`${i}`, value])));
    const [first, ...others] = operands.map(toArray);
    const scaled = elementwise((value) => 1.5 * value!, first!);
    const expected = referenceExperts(sizes, [scaled, ...others]);
    expect(relativeError(toArray(results.y!).data, expected.data)).toBeLessThan(1e-5);
    await executable.dispose();
  });

  test('in the body of a loop', async () => {
    const { up, down } = symbols(activation);
    const x = input('x', 'float32', ['tokens', HIDDEN]);
    const router = input('router', 'float32', [COUNT, HIDDEN]);
    const step = (h: typeof x): typeof x => {
      const scores = matmul(h, router, { transposeB: true });
      const y = experts(
        { x: h, weights: multiply(scores, scores), up, down },
        { activation, perToken: COUNT },
      );
      return add(h, multiply(y, 0.25));
    };
    const looped = loop(3, [x], (_, [h]) => ({ carried: [step(h!)], stacked: [] })).carried[0]!;
    const executable = await (await cpu()).compile(
      withInputs({
        outputs: { looped, unrolled: step(step(step(x))) },
        weights,
      }),
    );
    const { looped: actual, unrolled } = await executable.run({
      x: uniform(1, [5, HIDDEN]),
      router: uniform(2, [COUNT, HIDDEN], -0.25, 0.25),
    });
    expect(relativeError(toArray(actual!).data, toArray(unrolled!).data)).toBeLessThan(1e-6);
    await executable.dispose();
  });
});
