/** Blocks say what seeing all tokens and masking says, and so do their gradients, on every device that runs here. */
import { describe, expect, test } from 'vitest';
import { type Executable, int64, openDevice, type State, stateChanges } from '../../engine/index.js';
import { only, withInputs } from '../../engine/testing/with-inputs.js';
import { attention, constant, type Dim, gradient, input } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { generator, uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../parameters.js';
import { randomWeights } from '../testing/weights.js';
import { selectiveAttention } from './selective.js';
import { attendInBlocks, blockLength } from './selective-blocks.js';
import { causalBias } from './selective-memory.js';

const devices = {
  onnxruntime: await openDevice('cpu', { threads: 1 }),
  wasm: await openDevice('wasm', { threads: 2 }),
};
const [batch, heads, groups, headDim] = [2, 4, 2, 3];

interface Case {
  readonly length: number;
  readonly window: number;
  readonly selected: number;
  readonly block: number;
  /** Different scores that there are; any by default. */
  readonly levels?: number;
  /** Tokens of documents one after the other, in each row; what is left is another one. All are one by default. */
  readonly documents?: readonly (readonly number[])[];
}

const cases: Record<string, Case> = {
  'blocks that fill the sequence': { length: 40, window: 4, selected: 5, block: 8 },
  'a last block that is not full': { length: 37, window: 4, selected: 6, block: 8 },
  'blocks as long as the window': { length: 29, window: 6, selected: 3, block: 6 },
  'a window of one': { length: 30, window: 1, selected: 4, block: 4 },
  'one selected, blocks of one': { length: 12, window: 1, selected: 1, block: 1 },
  'more selected than there are tokens': { length: 20, window: 3, selected: 50, block: 5 },
  'fewer tokens than a block': { length: 5, window: 3, selected: 2, block: 9 },
  'none selected': { length: 33, window: 7, selected: 0, block: 8 },
  'scores of which many are equal': { length: 40, window: 4, selected: 5, block: 8, levels: 3 },
  'documents that end within blocks and with them': {
    ...{ length: 61, window: 4, selected: 5, block: 8 },
    documents: [
      [3, 29, 1, 1, 14],
      [8, 8, 24, 20],
    ],
  },
  'documents longer than a block, and a window of one': {
    ...{ length: 40, window: 1, selected: 3, block: 4, levels: 4 },
    documents: [[17, 2], [39]],
  },
  'documents without selection': { length: 33, window: 7, selected: 0, block: 8, documents: [[5, 20], []] },
  'scores that are all equal': { length: 40, window: 2, selected: 7, block: 4, levels: 1 },
};

/** The document of each of `length` tokens. */
function numbered(lengths: readonly number[], length: number, first = 1): number[] {
  const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0));
  return Array.from({ length }, (_, i) => first + ends.filter((end) => end <= i).length);
}

for (const [engine, device] of Object.entries(devices)) {
  describe(engine, () => {
    for (const [name, { length, window, selected, block, levels, documents: ends }] of Object.entries(
      cases,
    )) {
      test(name, async () => {
        const operands = {
          query: uniform(1, [batch, heads, length, headDim], -2, 2),
          keys: uniform(2, [batch, groups, length, headDim], -2, 2),
          values: uniform(3, [batch, groups, length, headDim], -2, 2),
          scores: uniform(4, [batch, length], -2, 2),
        };
        const next = generator(5);
        if (levels)
          for (const i of operands.scores.data.keys()) operands.scores.data[i] = Math.floor(levels * next());
        const [query, keys, values, scores] = Object.entries(operands).map(([key, { dims }]) =>
          input(key, 'float32', dims),
        ) as [
          ReturnType<typeof input>,
          ReturnType<typeof input>,
          ReturnType<typeof input>,
          ReturnType<typeof input>,
        ];
        const size = { window, selected };
        const documents = ends && input('documents', 'int64', [batch, length]);
        const numbers = (ends ?? []).flatMap((row) => numbered(row, length));
        const blocks = attendInBlocks(query, { keys, values, scores, documents }, size, block, 0.5).mixed;
        const masked = attention(
          { query, key: keys, value: values, bias: causalBias({ scores, documents }, length, size, false) },
          { scale: 0.5, causal: false },
        ).output;
        const seed = constant(
          uniform(6, blocks.shape as number[]).data as Float32Array,
          blocks.shape as number[],
        );
        const wanted = [query, keys, values, scores];
        const [ours, theirs] = [blocks, masked].map((y) => gradient([y], wanted, [seed]));
        const outputs = Object.fromEntries([
          ['blocks', blocks],
          ['masked', masked],
          ...wanted.flatMap((_, i) => [
            [`blocks ${i}`, ours![i]!],
            [`masked ${i}`, theirs![i]!],
          ]),
        ]);
        const program = withInputs({ outputs });
        const executable = await device.compile(program);
        const results = await executable.run(
          only(program, { ...operands, documents: int64(numbers, [batch, length]) }),
        );
        for (const part of ['', ' 0', ' 1', ' 2', ' 3']) {
          const [a, b] = ['blocks', 'masked'].map(
            (form) => results[`${form}${part}`]!.data as Float32Array,
          ) as [Float32Array, Float32Array];
          expect(a.length).toBe(b.length);
          // Without selection, scores matter to nothing.
          if (part === ' 3' && selected === 0) expect(Math.max(...a)).toBe(0);
          else expect(relativeError(a, b), `gradient${part}`).toBeLessThan(part === '' ? 1e-6 : 1e-5);
        }
        await executable.dispose();
      });
    }
  });
}

interface Sizes {
  readonly window: number;
  readonly selected: number;
  readonly score?: 'convolution';
  /** Tokens of documents; whether the first one goes on from the past (0) or begins (1). */
  readonly documents?: readonly number[];
  readonly first?: number;
}

test.each<Sizes>([
  { window: 4, selected: 5 },
  { window: 1, selected: 40 },
  { window: 7, selected: 0 },
  { window: 20, selected: 3, score: 'convolution' },
  { window: 4, selected: 5, documents: [50, 30, 3], first: 0 },
  { window: 1, selected: 40, documents: [128], first: 0 },
  { window: 20, selected: 3, score: 'convolution', documents: [64, 40], first: 1 },
])(
  'blocks go on from a past as the streaming form does: %o',
  async ({ documents: lengths, first, ...sizes }) => {
    const [hiddenSize, length] = [8, 128];
    const documents = lengths && numbered(lengths, length, first);
    const heads = { numHeads: 4, numKeyValueHeads: 2, headDim: 4, outputDeviation: 0.02 };
    const mixer = selectiveAttention({ hiddenSize, ...heads, ...sizes });
    const compile = async (sequence: Dim): Promise<Executable> => {
      const registry = new ParameterRegistry();
      const x = input('x', 'float32', ['batch', sequence, hiddenSize]);
      const position = input('position', 'int64', []);
      const before = Object.fromEntries(
        mixer.state.map(({ name, dtype, shape }) => [name, input(name, dtype, shape)]),
      );
      const numbers = documents && input('documents', 'int64', ['batch', sequence]);
      const { output, state } = mixer.forward(registry.root(), x, {
        state: before,
        position,
        documents: numbers,
      });
      return devices.wasm.compile({
        inputs: [x, position, ...(numbers ? [numbers] : [])],
        outputs: { output },
        state: stateChanges(mixer.state, before, state),
        weights: randomWeights(registry.specs.values()),
      });
    };
    const [streaming, blocks] = [await compile('sequence'), await compile(length)];
    for (const before of [3, 90]) {
      const run = async (executable: Executable, tokens: number, at: number, state: State) => {
        const x = uniform(at, [1, tokens, hiddenSize], -2, 2);
        const numbers =
          documents && int64(tokens === length ? documents : new Array(tokens).fill(1), [1, tokens]);
        const feeds = { x, position: int64([at], []), ...(numbers && { documents: numbers }) };
        const { output } = await executable.run(feeds, [state]);
        return { output: output!, ...Object.fromEntries(await state.read()) };
      };
      const state = streaming.newState();
      await run(streaming, before, 0, state);
      const past = await state.read();
      const wanted = await run(streaming, length, before, state);
      const made = await run(blocks, length, before, blocks.newState(past, before));
      expect(Object.keys(made)).toEqual(Object.keys(wanted));
      for (const [name, { data }] of Object.entries(wanted))
        expect(
          relativeError(made[name as 'output'].data as Float32Array, data as Float32Array),
          name,
        ).toBeLessThan(1e-5);
    }
    for (const executable of [streaming, blocks]) await executable.dispose();
  },
);

test('blocks are for known lengths at which they see less', () => {
  expect(blockLength('sequence', { window: 16, selected: 16 })).toBeUndefined();
  expect(blockLength(60, { window: 16, selected: 16 })).toBeUndefined();
  expect(blockLength(4096, { window: 16, selected: 16 })).toBe(32);
  expect(blockLength(4096, { window: 200, selected: 16 })).toBe(200);
  expect(blockLength(4096, { window: 200, selected: 4000 })).toBeUndefined();
  expect(blockLength(4100, { window: 16, selected: 16 }, {})).toBeUndefined();
});
