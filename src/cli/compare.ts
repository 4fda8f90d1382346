/** `heddle compare`: compares training runs by validation perplexity and memory of a sequence. */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { z } from 'zod';
import { CheckpointError } from '../errors.js';
import { checkpointFolder, countParameters, type Model, parametersOf, readModel } from '../models/index.js';
import { stateBytes } from '../nn/index.js';
import { formatBytes, formatCount, table } from './format.js';

/** The logs of the shipped model and of its two siblings, trained on the same tokens. */
const SHIPPED_RUNS = ['hybrid', 'transformer', 'ssm'].map((design) =>
  fileURLToPath(new URL(`../../assets/sotu-runs/${design}`, import.meta.url)),
);

const CONTEXTS = [1024, 65_536];

/** Arguments and action of `heddle compare`. */
export function configure(command: Command): void {
  command
    .argument('[runs...]', 'folders that the command train wrote')
    .action((folders: readonly string[]) => run(folders.length > 0 ? folders : SHIPPED_RUNS));
}

interface RunSummary {
  name: string;
  model: Model;
  step: number;
  perplexity: number;
}

async function run(folders: readonly string[]): Promise<void> {
  const runs = await Promise.all(folders.map(summary));
  const rows = [
    [
      'run',
      'layers',
      'parameters',
      'steps',
      'validation perplexity',
      ...CONTEXTS.map((n) => `state at ${n.toLocaleString('en')} tokens`),
    ],
    ...runs.map(({ name, model, step, perplexity }) => {
      return [
        name,
        model.pattern,
        formatCount(countParameters(parametersOf(model))),
        String(step),
        perplexity.toFixed(2),
        ...CONTEXTS.map((length) => formatBytes(stateBytes(model.state, length))),
      ];
    }),
  ];
  process.stdout.write(`${table(rows)}\n`);
}

const evaluationLine = z.object({ event: z.literal('evaluation'), step: z.number(), perplexity: z.number() });

/** An evaluation of the log, if the line is one; a killed run may leave an incomplete line. */
function evaluationOf(line: string): z.output<typeof evaluationLine> | undefined {
  try {
    return evaluationLine.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

async function summary(folder: string): Promise<RunSummary> {
  const path = join(folder, 'metrics.jsonl');
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new CheckpointError(`${folder} is no training run: ${path} cannot be read`, { cause: error });
  });
  const evaluations = text.split('\n').flatMap((line) => evaluationOf(line) ?? []);
  const last = evaluations.at(-1);
  if (!last) throw new CheckpointError(`${path} has no evaluation yet`);
  const model = await readModel(checkpointFolder(folder));
  return { name: basename(folder), model, step: last.step, perplexity: last.perplexity };
}
