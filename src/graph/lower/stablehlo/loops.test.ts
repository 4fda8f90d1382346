/** Which scans are loops, and which are trees. What they compute is proven with the operator's cases. */
import { expect, test } from 'vitest';
import type { ScanAttributes } from '../../ops/scan.js';
import { StableHloBuilder } from './builder.js';
import { hloScan } from './loops.js';

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
