/**
 * `heddle demo`: continues a text with the shipped model, and compares the costs with those of a transformer of the same size. The transformer has
 * random weights, which do not affect its cost.
 */
import type { Command } from 'commander';
import { decodeCost, prefillRate } from '../bench/cost.js';
import { heddleCall, heddleCommand } from '../command-line.js';
import { type Device, openDevice } from '../engine/index.js';
import { LanguageModel, loadModel } from '../generate/index.js';
import { hybridModel, parametersOf, preset, SHIPPED_MODEL } from '../models/index.js';
import { initialWeights } from '../train/index.js';
import { formatBytes, formatCount, formatRate, table } from './format.js';
import { wholeNumber } from './options.js';

/** The default text. */
export const DEMO_PROMPT = 'The state of our Union is';
const CONTEXTS = [1024, 8192, 65_536];
const PREFILL_TOKENS = 1024;

/** Arguments, options and action of `heddle demo`. */
export function configure(command: Command): void {
  command
    .argument('[prompt...]', 'the text to continue', [DEMO_PROMPT])
    .option('--seed <n>', 'the same seed writes the same text', wholeNumber, 3)
    .option('--max-tokens <n>', 'write at most this many tokens', wholeNumber, 160)
    .action((words: string[], { seed, maxTokens }) => runDemo(words.join(' '), seed, maxTokens));
}

/** Continues the prompt with the shipped model, then prints the costs of a sequence, compared to a transformer of the same size. */
export async function runDemo(prompt: string, seed: number, maxTokens: number): Promise<void> {
  const started = performance.now();
  const device = await openDevice('cpu');
  const hybrid = await loadModel(SHIPPED_MODEL, { device });
  say(
    `Heddle's shipped model: ${formatCount(hybrid.parameters)} parameters, layers ${hybrid.model.pattern}, trained on two centuries of speeches`,
  );
  say(
    `to the United States Congress. Loaded in ${((performance.now() - started) / 1000).toFixed(1)} s; it now goes on from your words (seed ${seed}):\n`,
  );

  const session = hybrid.session();
  await session.read(prompt);
  process.stdout.write(prompt);
  const writing = performance.now();
  const before = session.tokens.length;
  for await (const piece of session.generate({ maxTokens, seed })) process.stdout.write(piece.text);
  process.stdout.write('\n\n');
  const seconds = (performance.now() - writing) / 1000;
  const written = session.tokens.length - before;
  say(
    `${written} tokens in ${seconds.toFixed(1)} s: ${formatRate(written / seconds)}. This sequence holds ${formatBytes(session.bytes)} of memory.\n`,
  );
  session.dispose();

  await compare(hybrid, device);
  say('\nWhere to go next');
  const next = [
    [heddleCall('start'), 'the studio, where there is a terminal'],
    [`${heddleCommand()} demo "My fellow citizens"`, 'your own words'],
    [heddleCall('chat', SHIPPED_MODEL), 'turn by turn, the state kept between them'],
    [heddleCall('train', 'my-text.txt', '--out', 'my-run'), 'a model of your own, of a file or a folder'],
    [heddleCall('compare'), 'the three siblings: perplexity and memory'],
  ] as const;
  const width = Math.max(...next.map(([call]) => call.length));
  for (const [call, what] of next) say(`  ${call.padEnd(width)}  ${what}`);
  await hybrid.dispose();
}

async function compare(hybrid: LanguageModel, device: Device): Promise<void> {
  say(
    'What a sequence costs here, measured, beside a transformer of the same size (random weights: the cost is the same):\n',
  );
  const model = hybridModel(preset('transformer', 'small', hybrid.model.vocabSize));
  const weights = initialWeights(parametersOf(model), 1);
  const transformer = await LanguageModel.compile(model, weights, hybrid.tokenizer, device);
  const rows: string[][] = [['', 'hybrid', 'transformer', 'ratio']];
  const rates = [
    await prefillRate(hybrid, PREFILL_TOKENS),
    await prefillRate(transformer, PREFILL_TOKENS),
  ] as const;
  rows.push([
    `reading ${PREFILL_TOKENS.toLocaleString('en')} tokens`,
    ...rates.map((rate) => formatRate(rate)),
    ratio(rates[0], rates[1], 'faster', 'slower'),
  ]);
  for (const context of CONTEXTS) {
    const own = await decodeCost(hybrid, context);
    const other = await decodeCost(transformer, context);
    const after = `after ${context.toLocaleString('en')} tokens`;
    rows.push([
      `memory ${after}`,
      formatBytes(own.bytes),
      formatBytes(other.bytes),
      ratio(other.bytes, own.bytes, 'smaller', 'larger'),
    ]);
    rows.push([
      `writing ${after}`,
      formatRate(own.tokensPerSecond),
      formatRate(other.tokensPerSecond),
      ratio(own.tokensPerSecond, other.tokensPerSecond, 'faster', 'slower'),
    ]);
  }
  say(table(rows));
  await transformer.dispose();
}

/** The ratio of `a` and `b`, with a word for more and one for less. */
function ratio(a: number, b: number, more: string, less: string): string {
  const times = Math.max(a / b, b / a);
  return `${times >= 10 ? times.toFixed(0) : times.toFixed(1)}x ${a >= b ? more : less}`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
