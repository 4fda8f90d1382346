/**
 * The deletion test of attributions: the tokens with the highest scores are deleted and the log probability is computed again. It should fall, and
 * more than after deleting as many random tokens.
 */
import { Random } from '../nn/index.js';
import type { DeletionOf, Values } from './trace.js';

/** Logits [batch, vocabulary] after the last tokens of ids [batch][tokens], all of one length. */
export type Reader = (ids: readonly (readonly number[])[]) => Promise<Float32Array>;

const COUNTS = [1, 2, 4, 8, 16, 32];
const DRAWS = 16;
const SEED = 1;

/** The deleted tokens: at most half of all but the last token. Undefined if these are fewer than two. */
export async function deletionTest(
  ids: readonly number[],
  target: number,
  scores: Float32Array,
  read: Reader,
): Promise<DeletionOf<Values> | undefined> {
  const candidates = Array.from({ length: ids.length - 1 }, (_, i) => i);
  const counts = COUNTS.filter((count) => 2 * count <= candidates.length);
  if (counts.length === 0) return undefined;
  const best = [...candidates].sort((a, b) => scores[b]! - scores[a]!);
  const random = new Random(SEED);
  const [whole] = await logProbabilities([ids], target, read);
  const losses: number[][] = [];
  for (const count of counts) {
    const draws = Array.from({ length: DRAWS }, () => drawn(candidates, count, random));
    const rows = [best.slice(0, count), ...draws].map((gone) => without(ids, gone));
    losses.push((await logProbabilities(rows, target, read)).map((value) => whole! - value));
  }
  return {
    counts,
    attributed: { dims: [counts.length], data: Float32Array.from(losses, ([first]) => first!) },
    random: {
      dims: [counts.length, DRAWS],
      data: Float32Array.from(losses.flatMap(([, ...others]) => others)),
    },
  };
}

function without(ids: readonly number[], places: readonly number[]): number[] {
  const gone = new Set(places);
  return ids.filter((_, i) => !gone.has(i));
}

/** `count` distinct random elements of `items`. */
function drawn(items: readonly number[], count: number, random: Random): number[] {
  const left = [...items];
  return Array.from({ length: count }, () => left.splice(Math.floor(random.uniform() * left.length), 1)[0]!);
}

/** The log probability, in nats, of `target` as the next token of each row of ids. */
async function logProbabilities(
  ids: readonly (readonly number[])[],
  target: number,
  read: Reader,
): Promise<number[]> {
  const logits = await read(ids);
  const vocabulary = logits.length / ids.length;
  return ids.map((_, i) => logProbability(logits.subarray(i * vocabulary, (i + 1) * vocabulary), target));
}

/** log softmax(logits)[token], in float64. */
function logProbability(logits: Float32Array, token: number): number {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return logits[token]! - largest - Math.log(total);
}
