/**
 * Heddle as a contender in the race of runtimes: `node runtime-process.js <folder> <threads>`. It loads the model, says so in a
 * line of JSON, and then answers each line that it reads, a task, with how fast that was.
 */
import { createInterface } from 'node:readline';
import { decodeCost, prefillRate } from './cost.js';
import { say } from './line-process.js';
import { peakMemory } from './machine.js';
import type { RuntimeAnswer, RuntimeReady, RuntimeTask } from './runtime-section.js';
import { timedLoad } from './timed-load.js';

const DECODING_SECONDS = 1;

const { language, seconds } = await timedLoad();
say({ seconds, heldBytes: process.memoryUsage.rss() } satisfies RuntimeReady);

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens } = JSON.parse(line) as RuntimeTask;
  const tokensPerSecond =
    kind === 'prefill'
      ? await prefillRate(language, tokens, 1)
      : (await decodeCost(language, tokens, DECODING_SECONDS)).tokensPerSecond;
  say({ tokensPerSecond, peakBytes: peakMemory() } satisfies RuntimeAnswer);
}
await language.dispose();
