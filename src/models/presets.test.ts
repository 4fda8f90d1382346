/** The siblings: equal in size, as large as they say, and different only in what they mix with. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { hybridModel } from './hybrid.js';
import { countParameters, parametersOf } from './model.js';
import { DESIGNS, type Design, preset, SIZES, type Size } from './presets.js';

const parameters = (design: Design, size: Size): number =>
  countParameters(parametersOf(hybridModel(preset(design, size, 4096))));

const millions: Record<Size, number> = { nano: 1, small: 8, base: 30 };

for (const size of SIZES) {
  describe(size, () => {
    test(`the siblings match within 2% and have about ${millions[size]}M parameters`, () => {
      const counts = DESIGNS.map((design) => parameters(design, size));
      expect(Math.max(...counts) / Math.min(...counts)).toBeLessThan(1.02);
      for (const count of counts) expect(Math.abs(count / (millions[size] * 1e6) - 1)).toBeLessThan(0.3);
    });

    test('the siblings share width, depth and positions, and each has its own mixers', () => {
      const [transformer, ssm, hybrid] = DESIGNS.map((design) => preset(design, size, 4096));
      const letters = DESIGNS.map((design) => new Set(preset(design, size, 4096).pattern.match(/[MWS*]/g)));
      expect(letters).toEqual([new Set('*'), new Set('M'), new Set('MS')]);
      for (const sibling of [ssm!, hybrid!]) {
        expect(sibling.hiddenSize).toBe(transformer!.hiddenSize);
        expect(sibling.maxPositionEmbeddings).toBe(transformer!.maxPositionEmbeddings);
        expect(hybridModel(sibling).layers.length).toBe(hybridModel(transformer!).layers.length);
        expect(sibling.ropeTheta).toBeNull();
      }
      expect(transformer!.ropeTheta).toBe(10_000);
      // Selection only means something where the window and what is selected do not hold the whole sequence.
      expect(hybrid!.attentionWindow + hybrid!.attentionSelected).toBeLessThan(hybrid!.maxPositionEmbeddings);
    });
  });
}

test('names that are none are told with those that are', () => {
  expect(() => preset('cnn' as Design, 'nano', 4096)).toThrow(ConfigError);
  expect(() => preset('cnn' as Design, 'nano', 4096)).toThrow(/'cnn': use transformer, ssm, hybrid/);
  expect(() => preset('ssm', 'huge' as Size, 4096)).toThrow(/'huge': use nano, small, base/);
  expect(() => preset('ssm', 'toString' as Size, 4096)).toThrow(ConfigError);
});
