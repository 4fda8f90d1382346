/** Sounds: the spectrum is the one that sums of cosines give, pieces are heard as the whole, and samples have gradients. */
import { expect, test } from 'vitest';
import { float32, type HostTensor, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { input, multiply, scalar, sum } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../../nn/index.js';
import { modelConfig } from '../config.js';
import { hybridModel } from '../hybrid.js';
import { type Model, perceive, stateInputs } from '../model.js';
import { checkSlopes } from '../testing/gradients.js';
import { tinyConfig, tinyWeights } from '../testing/tiny.js';
import { sounds } from './sounds.js';

const device = await openDevice('cpu', { threads: 1 });
const of = {
  kind: 'sounds' as const,
  rate: 800,
  frame: 10,
  hop: 4,
  features: 'log-mel' as const,
  mels: 4,
  classes: ['a', 'b'],
};

function soundModel(change: Record<string, unknown> = {}, pattern = 'M-S'): Model {
  const { vocabSize: _, eosTokenId: __, ...base } = tinyConfig({ pattern });
  return hybridModel(modelConfig({ ...base, input: { ...of, ...change } }));
}

test('log-mel is what its definition says, frame by frame', async () => {
  // With the identity as the input layer the stream is the features.
  const registry = new ParameterRegistry();
  const samples = input('samples', 'float32', [1, 6, 4]);
  const { stream } = sounds(of, 4).enter(registry.root(), { samples });
  const weights = new Map<string, HostTensor>([
    ['input.weight', float32([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], [4, 4])],
    ['input.bias', float32([0, 0, 0, 0], [4])],
  ]);
  const executable = await device.compile(withInputs({ outputs: { stream }, weights }));
  const x = uniform(3, [1, 6, 4], -1, 1);
  const found = (await executable.run({ samples: x })).stream!.data as Float32Array;
  const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (m: number): number => 700 * (10 ** (m / 2595) - 1);
  const expected: number[] = [];
  for (let t = 0; t < 6; t++) {
    const at = (n: number): number =>
      ((x.data as Float32Array)[4 * (t + 1) - 10 + n] ?? 0) * Math.sin((Math.PI * n) / 10) ** 2;
    const power = Array.from({ length: 6 }, (_, k) => {
      let [real, imaginary] = [0, 0];
      for (let n = 0; n < 10; n++) {
        real += at(n) * Math.cos((2 * Math.PI * n * k) / 10);
        imaginary += at(n) * Math.sin((2 * Math.PI * n * k) / 10);
      }
      return real ** 2 + imaginary ** 2;
    });
    for (let m = 1; m <= 4; m++) {
      const [low, center, high] = [m - 1, m, m + 1].map((i) => hertz((mel(400) * i) / 5)) as [
        number,
        number,
        number,
      ];
      const energy = power.reduce((total, value, k) => {
        const f = 80 * k;
        const weight = f < center ? (f - low) / (center - low) : (high - f) / (high - center);
        return total + value * Math.max(0, weight);
      }, 0);
      expected.push((Math.log(0.4 * energy + 1e-6) + 6) / 8);
    }
  }
  expect(relativeError(found, Float32Array.from(expected))).toBeLessThan(1e-4);
  await executable.dispose();
});

test.each([
  { frame: 10, hop: 4 },
  { frame: 8, hop: 4 },
  { frame: 4, hop: 4, mels: 2 },
  { frame: 9, hop: 2, features: 'waveform' },
])('%j: heard in pieces it is heard as a whole', async (change) => {
  const model = soundModel(change);
  const { hop } = change;
  const weights = tinyWeights(model);
  const samples = input('samples', 'float32', [1, 'sequence', hop]);
  const position = input('position', 'int64', [1]);
  const before = stateInputs(model, 1);
  const { said, state } = perceive(model, new ParameterRegistry(), { samples }, position, { state: before });
  const executable = await device.compile({
    inputs: [samples, position],
    outputs: said,
    state: model.state.map((spec) => ({ spec, before: before[spec.name]!, after: state[spec.name]! })),
    weights,
  });
  const x = uniform(5, [12 * hop], -1, 1).data as Float32Array;
  const hear = async (pieces: readonly number[]): Promise<Float32Array> => {
    const own = executable.newState();
    const all: number[] = [];
    let read = 0;
    for (const size of pieces) {
      const part = float32(x.slice(read * hop, (read + size) * hop), [1, size, hop]);
      const at = { dtype: 'int64' as const, dims: [1], data: BigInt64Array.of(BigInt(read)) };
      all.push(
        ...((await executable.run({ samples: part, position: at }, [own])).logits!.data as Float32Array),
      );
      read += size;
    }
    own.dispose();
    return Float32Array.from(all);
  };
  const whole = await hear([12]);
  expect(whole.length).toBe(24);
  expect(new Set(whole).size).toBeGreaterThan(20);
  for (const pieces of [
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    [5, 1, 6],
    [2, 10],
  ])
    expect(relativeError(await hear(pieces), whole)).toBeLessThan(1e-5);
  await executable.dispose();
});

test('the gradient reaches the samples, as difference quotients show', async () => {
  // What is selected changes in steps, which have no gradient.
  const model = soundModel({}, 'M-');
  const samples = input('samples', 'float32', [1, 6, 4]);
  const { logits } = perceive(model, new ParameterRegistry(), { samples }, scalar(0, 'int64')).said;
  const loss = sum(multiply(logits!, logits!));
  const feeds = { ...Object.fromEntries(tinyWeights(model)), samples: uniform(6, [1, 6, 4], -1, 1) };
  await checkSlopes(device, loss, { samples }, feeds, { step: 2 ** -8 });
});

test.each([
  [{ hop: 12 }, /hop \(12\) must not be more than frame \(10\)/],
  [{ mels: 6 }, /mels \(6\) must not be more than half of frame \(10\)/],
  [{ classes: ['a', 'a'] }, /two classes have one name/],
  [{ features: 'mfcc' }, /features/],
])('%j cannot be', (change, message) => {
  expect(() => soundModel(change)).toThrow(message);
});
