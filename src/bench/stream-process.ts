/**
 * A process that reads an endless stream: `node stream-process.js <hybrid|transformer> <tokens> <stretch> <threads>`. It prints a line of
 * JSON for each stretch that it has read. The text is the shipped model's training text, repeated.
 */
import { fileURLToPath } from 'node:url';
import { openDevice } from '../engine/index.js';
import { LanguageModel, loadModel } from '../generate/index.js';
import { hybridModel, parametersOf, preset } from '../models/index.js';
import { encodeCorpus, loadCorpus } from '../text/index.js';
import { initialWeights } from '../train/index.js';
import { say } from './line-process.js';
import type { Streamer, Stretch } from './stream-section.js';

const [streamer, ...numbers] = process.argv.slice(2) as [Streamer, string, string, string];
const [total, length, threads] = numbers.map(Number) as [number, number, number];
const device = await openDevice('cpu', { threads });
const shipped = await loadModel(fileURLToPath(new URL('../../assets/sotu-hybrid', import.meta.url)), {
  device,
});
const { documents } = await loadCorpus('sotu');
const text = encodeCorpus(shipped.tokenizer, documents);
const model = streamer === 'hybrid' ? shipped : await transformer();

const session = model.session();
/** Tokens read before the first measured stretch, so that memory and caches settle. */
const warmUp = length;
await read(0, warmUp);
for (let start = 0; start < total; start += length) {
  const end = Math.min(total, start + length);
  const seconds = await read(warmUp + start, warmUp + end);
  say({
    tokens: end,
    tokensPerSecond: (end - start) / seconds,
    stateBytes: session.bytes,
    residentBytes: process.memoryUsage.rss(),
  } satisfies Stretch);
}

async function read(from: number, to: number): Promise<number> {
  const ids = Array.from({ length: to - from }, (_, i) => text[(from + i) % text.length]!);
  const started = performance.now();
  await session.read(ids);
  return (performance.now() - started) / 1000;
}

/** A transformer of the same size with random weights, whose cost does not depend on their values. */
async function transformer(): Promise<LanguageModel> {
  const plain = hybridModel(preset('transformer', 'small', shipped.model.vocabSize));
  return LanguageModel.compile(plain, initialWeights(parametersOf(plain), 1), shipped.tokenizer, device);
}
