/** Which scans are loops, and which are trees. What they compute is proven with the operator's cases. */
import { expect, test } from 'vitest';
import { gather, input, loop } from '../../index.js';
import type { ScanAttributes } from '../../ops/scan.js';
import { StableHloBuilder } from './builder.js';
import { hloScan } from './loops.js';
import { lowerToStableHlo } from './lower.js';

/** The text of a scan over 1,000 states of two rows. */
function textOf(product: ScanAttributes['product'], transition: [number, number], columns: number): string {
  const builder = new StableHloBuilder(() => 0, 'bfloat16');
  const given = [
    [1000, ...transition],
    [1000, 2, columns],
    [2, columns],
  ].map((dims, i) => builder.argument('f32', dims, false, `%arg${i}`));
  const attributes = { product, reverse: false, decays: false, axis: 0 };
  hloScan(builder, given, { attributes } as never);
  return builder.lines.join('\n');
}

test('a scan is a tree, whose size grows with the logarithm of its steps', () => {
  const text = textOf('elements', [1, 1], 3);
  expect(text).not.toContain('stablehlo.while');
  expect(text.match(/stablehlo\.concatenate/g)).toHaveLength(5);
});

test('one whose states have more than 2^21 numbers is a loop', () => {
  expect(textOf('elements', [1, 1], 2 ** 20)).not.toContain('stablehlo.while');
  expect(textOf('elements', [1, 1], 2 ** 20 + 1)).toContain('stablehlo.while');
});

test('one whose matrices are larger than its states is a loop', () => {
  expect(textOf('matrix', [2, 2], 2)).not.toContain('stablehlo.while');
  expect(textOf('matrix', [2, 2], 1)).toContain('stablehlo.while');
});

test('a loop of no steps leaves out its body, which would take elements of what has none', () => {
  const places = input('places', 'int64', ['count']);
  const { stacked } = loop('count', [], (i) => ({ carried: [], stacked: [gather(places, i)] }));
  const textOf = (count: number) =>
    lowerToStableHlo({
      outputs: { taken: stacked[0]! },
      inputs: [places],
      ...{ states: [], weights: new Map(), lengths: undefined },
      sizes: () => count,
      ...{ precision: 'float32', fusesAttention: false },
    }).text;
  expect(textOf(3)).toContain('stablehlo.while');
  expect(textOf(0)).not.toMatch(/stablehlo\.(while|gather)/);
  expect(textOf(0)).toContain('tensor<0xi64>');
});
