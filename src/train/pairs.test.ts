/** Of a pair the target alone has a loss: from the first token behind the separator to the end of the text. */
import { expect, test } from 'vitest';
import { hybridModel } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { type EncodedPair, encodePair, pairData } from './pairs.js';
import { TRAINING_DEFAULTS } from './settings.js';

const tokenizer = new Tokenizer(tokenizerFiles(trainBpe(['a b', 'c d'], { vocabSize: 260 })));
const pair = encodePair(tokenizer, { source: 'two words', target: 'ok' });

test('what is encoded begins as the prompt that a person would type, and ends the text', () => {
  const prompt = tokenizer.encodeFromStart('two words\t');
  expect([...pair.tokens.subarray(0, pair.prefix)]).toEqual(prompt);
  expect(tokenizer.decode([...pair.tokens.subarray(pair.prefix, -1)])).toBe('ok');
  expect(pair.tokens.at(-1)).toBe(tokenizer.endOfText);
});

test('what is counted predicts the target and its end, and nothing else', () => {
  const sequence = pair.tokens.length + 3;
  const settings = { ...TRAINING_DEFAULTS, sequence };
  const predictedOf = (example: EncodedPair): number[] => {
    const { training } = pairData([example], [example])(hybridModel(tinyConfig()), settings);
    const { tokens, counted } = training.take(5, 1) as { tokens: BigInt64Array; counted: Float32Array };
    expect(tokens.length).toBe(sequence + 1);
    return [...counted].flatMap((weight, i) => (weight === 1 ? [Number(tokens[i + 1])] : []));
  };
  expect(predictedOf(pair)).toEqual([...pair.tokens.subarray(pair.prefix)]);
  const learned = [
    [1, 3],
    [5, 6],
  ] as const;
  expect(predictedOf({ ...pair, learned })).toEqual([pair.tokens[1], pair.tokens[2], pair.tokens[5]]);
});

test('what is longer than a sequence is refused, with its place', () => {
  const model = hybridModel(tinyConfig());
  const settings = { ...TRAINING_DEFAULTS, sequence: pair.tokens.length - 2 };
  expect(() => pairData([pair], [pair])(model, settings)).toThrow(/^a pair has \d+ tokens, and a sequence/);
  const placed = { ...pair, place: 'chats.jsonl, line 7' };
  expect(() => pairData([placed], [placed])(model, settings)).toThrow(/^chats\.jsonl, line 7 has \d+ tokens/);
});
