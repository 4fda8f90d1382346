/** The config: defaults, what is refused and how it is told, and `config.json` there and back. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { thrownBy } from '../testing/refusal.js';
import {
  configJson,
  configSchema,
  type ModelConfig,
  type ModelConfigInput,
  modelConfig,
  parseConfig,
} from './config.js';
import { formatConfig, modelFromConfig, parseConfigText } from './config-file.js';
import { modalitySchema } from './modalities/index.js';
import { preset } from './presets.js';
import { sourceSchema } from './source.js';

const minimal: ModelConfigInput = {
  modelType: 'heddle',
  vocabSize: 100,
  hiddenSize: 8,
  pattern: 'M-',
  intermediateSize: 16,
  maxPositionEmbeddings: 32,
};

const refusal = (run: () => unknown): string => thrownBy(ConfigError, run).message;

test('the page of designs explains every key', () => {
  const page = readFileSync(new URL('../../docs/designs.md', import.meta.url), 'utf8');
  const explained = new Set([...page.matchAll(/`([a-z][a-z0-9_]*)(?:: [^`]*)?`/g)].map(([, key]) => key));
  const keys = Object.keys(configSchema.shape).map((key) =>
    key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`),
  );
  expect(keys.length).toBeGreaterThan(50);
  expect(keys.filter((key) => !explained.has(key))).toEqual([]);
});

test('and every key of what a model reads, for each kind of data', () => {
  const page = readFileSync(new URL('../../docs/designs.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| (`[^|]*) \| ([^|]*)\| ([^|]*)\| [^|]+ \|$/gm)].map(([, ...cells]) =>
    cells.map((cell) => cell!.split(',').map((part) => part.trim())),
  );
  const given = { input: modalitySchema.options, source: sourceSchema.options };
  const wanted = Object.values(given).flatMap((options, place) =>
    options.flatMap(({ shape }) =>
      Object.keys(shape).map((key) => ({ key: `\`${key}\``, kind: shape.kind.value, place: place + 1 })),
    ),
  );
  expect(wanted.length).toBeGreaterThan(40);
  const isExplained = ({ key, kind, place }: (typeof wanted)[number]): boolean =>
    rows.some((cells) => cells[0]!.includes(key) && cells[place]!.includes(kind));
  expect(wanted.filter((each) => !isExplained(each))).toEqual([]);
});

describe('checks', () => {
  test('what is not said has a default', () => {
    expect(modelConfig(minimal)).toEqual({
      ...minimal,
      normEpsilon: 1e-5,
      tieWordEmbeddings: true,
      mambaNumHeads: 1,
      mambaHeadDim: 64,
      ssmStateSize: 64,
      nGroups: 1,
      convKernel: 4,
      useConvBias: true,
      timeStepLimit: [0, null],
      numAttentionHeads: 1,
      numKeyValueHeads: 1,
      headDim: 64,
      ropeTheta: null,
      attentionWindow: 64,
      attentionSelected: 64,
    });
  });

  const wrong: [string, Partial<Record<keyof ModelConfigInput, unknown>>, RegExp][] = [
    ['a size of 0', { hiddenSize: 0 }, /hiddenSize/],
    ['a negative size', { vocabSize: -1 }, /vocabSize/],
    ['half a layer', { intermediateSize: 1.5 }, /intermediateSize/],
    ['a number as text', { hiddenSize: '8' }, /hiddenSize.*number/],
    ['a shared key whose halves cannot rotate', { qkRopeHeadDim: 3 }, /qkRopeHeadDim.*even/],
    [
      'a selection without a window',
      { attentionWindow: 0, attentionSelected: 8 },
      /attentionWindow.*1 or more/,
    ],
    [
      'more experts for a token than there are',
      { numExperts: 2, numExpertsPerTok: 3 },
      /numExpertsPerTok \(3\).*numExperts \(2\)/,
    ],
    ['no pattern', { pattern: undefined }, /pattern/],
    ['an unknown letter', { pattern: 'MZ' }, /'MZ' has the letter 'Z'/],
    ['another model', { modelType: 'llama' }, /modelType/],
    [
      'heads that do not share keys evenly',
      { numAttentionHeads: 6, numKeyValueHeads: 4 },
      /numAttentionHeads \(6\).*numKeyValueHeads \(4\)/,
    ],
    [
      'heads that do not share groups evenly',
      { mambaNumHeads: 3, nGroups: 2 },
      /mambaNumHeads \(3\).*nGroups \(2\)/,
    ],
    ['an odd head that should rotate', { headDim: 5, ropeTheta: 10_000 }, /headDim \(5\)/],
    ['limits of dt the wrong way round', { timeStepLimit: [1, 0.5] }, /timeStepLimit/],
    ['an end of text that is no token', { eosTokenId: 100 }, /eosTokenId \(100\).*vocabSize \(100\)/],
    ['a beginning of text that is no token', { bosTokenId: 200 }, /bosTokenId \(200\).*vocabSize \(100\)/],
    ['no epsilon', { normEpsilon: 0 }, /normEpsilon/],
  ];
  for (const [name, change, message] of wrong) {
    test(`refuses ${name}`, () => {
      expect(refusal(() => modelConfig({ ...minimal, ...change } as ModelConfigInput))).toMatch(message);
    });
  }

  test('an odd head without rotation is fine', () => {
    expect(modelConfig({ ...minimal, headDim: 5 }).headDim).toBe(5);
  });

  test('tells everything that is wrong at once, with unknown keys by name', () => {
    const message = refusal(() =>
      modelConfig({ ...minimal, hiddenSize: 0, vocabSize: 0.5, hidenSize: 8 } as ModelConfigInput),
    );
    expect(message).toMatch(/hiddenSize/);
    expect(message).toMatch(/vocabSize/);
    expect(message).toMatch(/unknown keys: hidenSize/);
  });
});

describe('config.json', () => {
  const written = (config: ModelConfig): string => formatConfig(configJson(config));
  const read = (text: string, path = 'config.json'): ModelConfig =>
    parseConfig(parseConfigText(text, path), path);

  test('is written in snake_case and read back the same', () => {
    const config = preset('hybrid', 'nano', 512);
    const text = written(config);
    const keys = Object.keys(JSON.parse(text));
    expect(keys).toContain('max_position_embeddings');
    expect(keys).toContain('num_key_value_heads');
    expect(keys.filter((key) => /[A-Z]/.test(key))).toEqual([]);
    expect(read(text)).toEqual(config);
    expect(written(read(text))).toBe(text);
  });

  test('keeps null and an absent token apart from their defaults', () => {
    const config = modelConfig({ ...minimal, ropeTheta: null, timeStepLimit: [0.1, null] });
    const parsed = read(written(config));
    expect(parsed).toEqual(config);
    expect(parsed.eosTokenId).toBeUndefined();
  });

  const refused: [string, string, RegExp][] = [
    ['text that is no JSON', '{"model_type": ', /there\/config\.json is not JSON/],
    ['an empty file', '', /there\/config\.json is not JSON/],
    ['a list', '[]', /not a JSON object/],
    ['null', 'null', /not a JSON object/],
    [
      'another model',
      '{"model_type": "gpt2"}',
      /there\/config\.json has the model_type "gpt2"; those that are read: heddle, /,
    ],
    ['no model at all', '{}', /there\/config\.json has no model_type; those that are read: heddle, /],
  ];
  for (const [name, text, message] of refused) {
    test(`refuses ${name}`, () => {
      const path = 'there/config.json';
      expect(refusal(() => modelFromConfig(parseConfigText(text, path), path))).toMatch(message);
    });
  }

  const changed = (change: Record<string, unknown>): string =>
    JSON.stringify({ ...configJson(modelConfig(minimal)), ...change });

  test('names keys as the file does', () => {
    const message = (change: Record<string, unknown>) =>
      refusal(() => read(changed(change), 'there/config.json'));
    expect(message({ hiden_size: 8 })).toMatch(/there\/config\.json.*unknown keys: hiden_size/);
    expect(message({ hidden_size: 'wide' })).toMatch(/hidden_size/);
    expect(message({ num_attention_heads: 3, num_key_value_heads: 2 })).toMatch(
      /num_attention_heads \(3\) must be a multiple of num_key_value_heads \(2\)/,
    );
    expect(message({ time_step_limit: [0, 'Infinity'] })).toMatch(/time_step_limit\.1/);
  });

  test('refuses a key that only looks like one of ours, by the name that it has in the file', () => {
    const message = refusal(() => read(changed({ hiddenSize: 16 })));
    expect(message).toMatch(/unknown keys: hiddenSize/);
  });
});
