/**
 * `npm run bench -- answers`: what it costs an answer to be steered or told of in detail, and how evenly its tokens come. All kinds of answers
 * are written by turns in one process, behind the same prompt and with the same seed.
 */
import type { Command } from 'commander';
import { Constraint, schemaNode, TokenTree } from '../generate/grammar/index.js';
import { type GenerateOptions, type LanguageModel, loadModel, type Snapshot } from '../generate/index.js';
import { SHIPPED_MODEL } from '../models/index.js';
import { Vocabulary } from '../text/index.js';
import { describeMachine } from './machine.js';
import { addShapeOptions, type ShapeOptions, withMeasuredModel } from './measured-model.js';
import { positive } from './positive.js';
import { machineText } from './report.js';
import { decimal, table } from './table.js';

interface AnswersOptions extends ShapeOptions {
  threads: number;
  prompt: number;
  tokens: number;
  rounds: number;
}

/** Tokens that an answer may have, of which the first are timed: as many as clients often ask for. */
const MOST_TOKENS = 512;

const SCHEMA = {
  type: 'object',
  properties: { title: { type: 'string' }, text: { type: 'string' } },
  required: ['title', 'text'],
  additionalProperties: false,
};

/** How answers may be asked for; the first is what the others are held against. */
function kindsOf({ tokenizer, model }: LanguageModel): Readonly<Record<string, () => GenerateOptions>> {
  const tree = new TokenTree(tokenizer.vocabularyIfTold ?? Vocabulary.of(tokenizer));
  const grammar = schemaNode(SCHEMA);
  return {
    plain: () => ({}),
    'temperature 0': () => ({ temperature: 0 }),
    '5 log probabilities': () => ({ logprobs: 5 }),
    penalties: () => ({ repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.5 }),
    'a JSON schema': () => ({ steering: [new Constraint(grammar, tree, [...model.eosTokenIds])] }),
  };
}

/** The milliseconds between the tokens of an answer, begun anew where it ends before it has so many. */
async function gapsOf(
  language: LanguageModel,
  prompt: Snapshot,
  tokens: number,
  options: () => GenerateOptions,
): Promise<number[]> {
  const gaps: number[] = [];
  for (let seed = 1; gaps.length < tokens; seed++) {
    const session = language.session();
    session.restore(prompt);
    const pieces = session.generate({ ...options(), seed, maxTokens: MOST_TOKENS });
    // The first token needs no run: its logits are the prompt's.
    await pieces.next();
    for (let before = performance.now(); gaps.length < tokens; ) {
      const { done, value } = await pieces.next();
      const now = performance.now();
      if (done) break;
      if (value.id === undefined) continue;
      gaps.push(now - before);
      before = now;
    }
    await pieces.return('length');
    session.dispose();
  }
  return gaps;
}

async function runAnswers(model: string, options: AnswersOptions): Promise<void> {
  const { threads, prompt: length, tokens, rounds } = options;
  await withMeasuredModel(model, options, async (folder, name) => {
    const language = await loadModel(folder, { threads });
    print(machineText(describeMachine('cpu', threads)));
    const session = language.session();
    await session.read(Array.from({ length }, (_, i) => (i * 7 + 1) % language.model.vocabSize));
    const prompt = await session.snapshot();
    session.dispose();
    const kinds = Object.entries(kindsOf(language));
    const gaps = kinds.map((): number[][] => []);
    for (let round = -1; round < rounds; round++) {
      for (const [i, [, options]] of kinds.entries()) {
        const measured = await gapsOf(language, prompt, tokens, options);
        // What runs for the first time is compiled.
        if (round >= 0) gaps[i]!.push(measured);
      }
    }
    print(
      `answers: ${name}, ${tokens} tokens behind ${length}, ${rounds} rounds by turns\n${answersText(kinds, gaps)}`,
    );
    prompt.dispose();
    await language.dispose();
  });
}

/** `gaps` are the milliseconds between tokens by kind and round. */
function answersText(kinds: readonly (readonly [name: string, unknown])[], gaps: number[][][]): string {
  const totals = gaps.map((all) => all.map((round) => round.reduce((a, b) => a + b, 0)));
  const rows = kinds.map(([name], i) => {
    const all = gaps[i]!.flat();
    const rate = quantile(
      gaps[i]!.map((round, j) => (round.length / totals[i]![j]!) * 1000),
      0.5,
    );
    const ratio = quantile(
      totals[i]!.map((total, j) => totals[0]![j]! / total),
      0.5,
    );
    const [median, late] = [quantile(all, 0.5), quantile(all, 0.99)];
    return [
      name,
      decimal(rate),
      `${ratio.toFixed(2)} x`,
      `${median.toFixed(1)} ms`,
      `${late.toFixed(1)} ms`,
      `${(late / median).toFixed(2)} x`,
    ];
  });
  return table([['', 'tokens/s', 'of plain', 'median gap', 'p99', 'p99 of it'], ...rows]);
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

/** Adds the command `answers`. */
export function addAnswersCommand(program: Command): void {
  addShapeOptions(program.command('answers'))
    .description('writing with a JSON schema, penalties or log probabilities beside writing without')
    .argument('[model]', 'a model with its tokenizer', SHIPPED_MODEL)
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--prompt <tokens>', 'tokens that come before', positive, 128)
    .option('--tokens <n>', 'tokens of an answer that are timed', positive, 48)
    .option('--rounds <n>', 'how often each kind is written', positive, 7)
    .action((model: string, options: AnswersOptions) => runAnswers(model, options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
