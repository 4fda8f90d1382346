/** Parameters belong to the letters of their layer, and to that of their own mixer where several are side by side. */
import { expect, test } from 'vitest';
import { modelConfig } from './config.js';
import { hybridModel } from './hybrid.js';
import { expectLayers, lettersOf, lettersOfLayers } from './layer-letters.js';
import { parametersOf } from './model.js';
import { bitsOf } from './quantization.js';
import { tinyConfig } from './testing/tiny.js';

test('mixers side by side, shared layers, and an encoder', () => {
  const source = { kind: 'texts' as const, length: 8, pattern: '<*>-[<M><*>]' };
  const model = hybridModel(modelConfig({ ...tinyConfig({ pattern: '[M*]-{W}{W}X' }), source }));
  const found = new Map<string, string>();
  for (const { name } of parametersOf(model)) {
    const place = /^.*layers\.\d+(\.mixer\.(mixers|norms)\.\d+)?/.exec(name)?.[0] ?? 'none';
    found.set(place, lettersOf(model, name).join(' '));
  }
  expect(Object.fromEntries(found)).toEqual({
    none: '',
    'backbone.layers.0': '[M*]',
    'backbone.layers.0.mixer.mixers.0': 'M [M*]',
    'backbone.layers.0.mixer.norms.0': 'M [M*]',
    'backbone.layers.0.mixer.mixers.1': '* [M*]',
    'backbone.layers.0.mixer.norms.1': '* [M*]',
    'backbone.layers.1': '-',
    'backbone.layers.2': 'W',
    'backbone.layers.4': 'X',
    'encoder.layers.0': '<*>',
    'encoder.layers.1': '-',
    'encoder.layers.2': '[<M><*>]',
    'encoder.layers.2.mixer.mixers.0': '<M> [<M><*>]',
    'encoder.layers.2.mixer.norms.0': '<M> [<M><*>]',
    'encoder.layers.2.mixer.mixers.1': '<*> [<M><*>]',
    'encoder.layers.2.mixer.norms.1': '<*> [<M><*>]',
  });
  expect(lettersOfLayers(model)).toEqual(['[M*]', 'M', '*', '-', 'W', 'X', '<*>', '[<M><*>]', '<M>']);
});

test('bits of a letter are those of its mixers side by side with others, and of a layer those of all the rest', () => {
  const model = hybridModel(tinyConfig({ pattern: '([M*]-)x2' }));
  const asked = { bits: 4, block: 32, layers: { M: 8, '[M*]': 32 } } as const;
  expect(() => expectLayers(model, asked.layers)).not.toThrow();
  const bits = (name: string): number =>
    bitsOf(model, asked, `backbone.layers.2.mixer.mixers.${name}.weight`);
  expect([bits('0.in_proj'), bits('1.q_proj')]).toEqual([8, 32]);
  expect(bitsOf(model, asked, 'backbone.layers.1.mixer.input.weight')).toBe(4);
  expect(() => expectLayers(model, { S: 8 })).toThrow(
    /no layer of this model is 'S'; it has \[M\*\], M, \*, -/,
  );
});
