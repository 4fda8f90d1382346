/**
 * `npm run bench -- answers`: the cost of constrained, penalized and log-probability answers, and the gaps between their tokens. All kinds of
 * answers are generated in alternating rounds in one process, after the same prompt and with the same seed.
 */
import type { Command } from 'commander';
import { loadModel } from '../generate/index.js';
import { SHIPPED_MODEL } from '../models/index.js';
import { Answers } from './answers.js';
import { describeMachine } from './machine.js';
import { addShapeOptions, type ShapeOptions, withMeasuredModel } from './measured-model.js';
import { positive } from './positive.js';
import { evennessOf, quantile } from './quantile.js';
import { machineText } from './report.js';
import { ANSWER_KINDS } from './runtime-tasks.js';
import { decimal, table } from './table.js';

interface AnswersOptions extends ShapeOptions {
  threads: number;
  prompt: number;
  tokens: number;
  rounds: number;
}

async function runAnswers(model: string, options: AnswersOptions): Promise<void> {
  const { threads, prompt: length, tokens, rounds } = options;
  await withMeasuredModel(model, options, async (folder, name) => {
    const language = await loadModel(folder, { threads });
    print(machineText(describeMachine('cpu', threads)));
    const answers = await Answers.after(language, length);
    const gaps = ANSWER_KINDS.map((): number[][] => []);
    for (let round = -1; round < rounds; round++) {
      for (const [i, kind] of ANSWER_KINDS.entries()) {
        const measured = await answers.gaps(kind, tokens);
        // The first run compiles.
        if (round >= 0) gaps[i]!.push(measured);
      }
    }
    print(
      `answers: ${name}, ${tokens} tokens after ${length}, ${rounds} alternating rounds\n${answersText(gaps)}`,
    );
    answers.dispose();
    await language.dispose();
  });
}

/** `gaps` are the milliseconds between tokens by kind and round. */
function answersText(gaps: readonly (readonly (readonly number[])[])[]): string {
  const totals = gaps.map((all) => all.map((round) => round.reduce((a, b) => a + b, 0)));
  const rows = ANSWER_KINDS.map((name, i) => {
    const rates = gaps[i]!.map((round, j) => (round.length / totals[i]![j]!) * 1000);
    const ratios = totals[i]!.map((total, j) => totals[0]![j]! / total);
    const { median, p99 } = evennessOf(gaps[i]!.flat());
    return [
      name,
      decimal(quantile(rates, 0.5)),
      `${quantile(ratios, 0.5).toFixed(2)} x`,
      `${median.toFixed(1)} ms`,
      `${p99.toFixed(1)} ms`,
      `${(p99 / median).toFixed(2)} x`,
    ];
  });
  return table([['', 'tokens/s', 'of plain', 'median gap', 'p99', 'p99 of it'], ...rows]);
}

/** Adds the command `answers`. */
export function addAnswersCommand(program: Command): void {
  addShapeOptions(program.command('answers'))
    .description('decoding with a JSON schema, penalties or log probabilities, compared with plain decoding')
    .argument('[model]', 'a model with its tokenizer', SHIPPED_MODEL)
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--prompt <tokens>', 'tokens of the prompt', positive, 128)
    .option('--tokens <n>', 'timed tokens of an answer', positive, 48)
    .option('--rounds <n>', 'rounds of each kind', positive, 7)
    .action((model: string, options: AnswersOptions) => runAnswers(model, options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
