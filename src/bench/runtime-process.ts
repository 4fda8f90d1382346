/**
 * Heddle as a contender in the race of runtimes: `node runtime-process.js <folder> <threads>`. It loads the model, says so in a
 * line of JSON, and then answers each line that it reads, a task, with how fast that was.
 */
import { createInterface } from 'node:readline';
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { locateWeights, readModel } from '../models/index.js';
import { decodeCost, prefillRate } from './cost.js';
import { bytesTokenizer } from './generation-section.js';
import { peakMemory } from './machine.js';
import type { RuntimeAnswer, RuntimeReady, RuntimeTask } from './runtime-section.js';

const DECODING_SECONDS = 1;

const [folder, threads] = process.argv.slice(2) as [string, string];
const started = performance.now();
const model = await readModel(folder);
const device = await openDevice('cpu', { threads: Number(threads) });
const language = await LanguageModel.compile(
  model,
  await locateWeights(folder, model),
  bytesTokenizer(),
  device,
);
say({ seconds: (performance.now() - started) / 1000, heldBytes: process.memoryUsage.rss() });

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens } = JSON.parse(line) as RuntimeTask;
  const tokensPerSecond =
    kind === 'prefill'
      ? await prefillRate(language, tokens, 1)
      : (await decodeCost(language, tokens, DECODING_SECONDS)).tokensPerSecond;
  say({ tokensPerSecond, peakBytes: peakMemory() });
}
await language.dispose();

function say(line: RuntimeReady | RuntimeAnswer): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
