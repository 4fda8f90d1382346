/** The next token is the sampler's own: of vocabularies that are sorted whole, and of one whose groups are looked at first. */
import { describe, expect, test } from 'vitest';
import { SAMPLING_DEFAULTS, Sampler } from '../../../generate/sampler.js';
import { Random } from '../../../nn/index.js';
import { compileText } from '../../testing/stablehlo/evaluate.js';
import { StableHloBuilder } from './builder.js';
import { drawn, SAMPLING_SETTINGS } from './sampling.js';
import { typeOf } from './text.js';

const ROWS = 2;

function compiled(vocabulary: number) {
  const builder = new StableHloBuilder(() => 0, 'bfloat16');
  const types = [[ROWS, vocabulary], [ROWS], [ROWS, SAMPLING_SETTINGS.length]].map((dims) => ({
    element: 'f32' as const,
    dims,
  }));
  const given = types.map(({ element, dims }, i) => builder.argument(element, dims, false, `%arg${i}`));
  const { token, logit } = drawn(builder, given[0]!, given[1]!, given[2]!);
  const signature = types.map((type, i) => `%arg${i}: ${typeOf(type)}`).join(', ');
  const { run } = compileText(
    `module @m attributes {} {\nfunc.func public @main(${signature}) -> (${typeOf(token)}, ${typeOf(logit)}) {\n${builder.lines.join('\n')}\nreturn ${token.id}, ${logit.id} : ${typeOf(token)}, ${typeOf(logit)}\n}\n}\n`,
  );
  return (...values: Float64Array[]) => run(values.map((data, i) => ({ type: types[i]!, data })));
}

const cases = [
  { temperature: 0.8, topP: 0.95 },
  { temperature: 2, topK: 20, topP: 0.5 },
  { temperature: 1, topP: 1, minP: 0.3 },
  { temperature: 0 },
];

describe.each([40, 32_768])('of %i tokens', (vocabulary) => {
  const run = compiled(vocabulary);
  test.each(cases)('%o', (options) => {
    const random = new Random(3);
    // Few values, so that many logits are equal; the last ones may be the highest.
    const logits = Float64Array.from(
      { length: ROWS * vocabulary },
      () => Math.round(8 * random.normal()) / 4,
    );
    const settings = { ...SAMPLING_DEFAULTS, ...options, seed: 7, bias: new Map(), steering: [] };
    const { uniforms, ...plan } = new Sampler(settings, []).ahead(ROWS)!;
    const row = SAMPLING_SETTINGS.map((name) => plan[name]);
    const [tokens, chosen] = run(logits, Float64Array.from(uniforms), Float64Array.from([...row, ...row]));
    const sampler = new Sampler(settings, []);
    for (let i = 0; i < ROWS; i++) {
      const own = Float32Array.from(logits.subarray(i * vocabulary, (i + 1) * vocabulary));
      const expected = sampler.choose(own, 1);
      expect(tokens!.data[i]).toBe(expected);
      expect(chosen!.data[i]).toBe(own[expected]);
    }
  });
});
