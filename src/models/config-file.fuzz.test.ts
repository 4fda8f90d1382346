/**
 * Damaged configs: whatever a config.json holds, it is refused with a `ConfigError`, or gives a model in which the size of
 * every parameter and state is a whole number, and which is the same once written and read again.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { formatConfig, modelFromConfig, parseConfigText } from './config-file.js';
import { hybridModel } from './hybrid.js';
import { type Model, parametersOf } from './model.js';
import { Damage } from './testing/config-damage.js';
import { fixtureFolder, referenceNames } from './testing/reference.js';
import { tinyConfig } from './testing/tiny.js';

const DAMAGED_VALUES = 100;
const DAMAGED_TEXTS = 50;

/** Whether a config was read; throws unless what came of it is as it should be. */
function survives(read: () => Model): boolean {
  let model: Model;
  try {
    model = read();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return false;
  }
  for (const { name, shape } of parametersOf(model)) {
    for (const dim of shape) {
      if (!(Number.isSafeInteger(dim) && dim >= 1)) throw new Error(`${name} is [${shape}]`);
    }
  }
  for (const { name, shape } of model.state) {
    for (const dim of shape) {
      if (dim === 'batch' || dim === 'past' || (Number.isSafeInteger(dim) && (dim as number) >= 0)) continue;
      throw new Error(`${name} is [${shape}]`);
    }
  }
  const again = modelFromConfig(parseConfigText(formatConfig(model.json), 'again'), 'again');
  expect(again.state).toEqual(model.state);
  expect(again.pattern).toBe(model.pattern);
  return true;
}

const texts: [string, string][] = [
  ['heddle', formatConfig(hybridModel(tinyConfig({ ropeTheta: 10_000 })).json)],
  ...(['hf', 'variants'] as const).flatMap((kind) =>
    referenceNames(kind).map((name): [string, string] => [
      name,
      readFileSync(join(fixtureFolder(kind, name), 'config.json'), 'utf8'),
    ]),
  ),
];

describe.each(texts)('%s', (name, text) => {
  const seed = texts.findIndex(([other]) => other === name);
  const json = parseConfigText(text, name);

  test('is read as it is', () => expect(survives(() => modelFromConfig(json, name))).toBe(true));

  test('with wrong values', () => {
    const damage = new Damage(seed);
    const seen = new Set<boolean>();
    for (let i = 0; i < DAMAGED_VALUES; i++) {
      const harmed = damage.config(json);
      try {
        seen.add(survives(() => modelFromConfig(parseConfigText(harmed, name), name)));
      } catch (error) {
        throw new Error(`damage ${i}: ${harmed}`, { cause: error });
      }
    }
    expect(seen.size, 'some are refused, and some are not').toBe(2);
  });

  test('with a damaged text', () => {
    const damage = new Damage(1000 + seed);
    const seen = new Set<boolean>();
    for (let i = 0; i < DAMAGED_TEXTS; i++) {
      const harmed = damage.text(text);
      try {
        seen.add(survives(() => modelFromConfig(parseConfigText(harmed, name), name)));
      } catch (error) {
        throw new Error(`damage ${i}: ${harmed}`, { cause: error });
      }
    }
    expect(seen.size, 'some are refused, and some are not').toBe(2);
  });
});
