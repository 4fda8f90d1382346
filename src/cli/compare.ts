/** `heddle compare`: compares training runs of one kind by what they were evaluated on, and by the memory of a sequence. */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { z } from 'zod';
import { parseJson } from '../checkpoint/index.js';
import { CheckpointError, ConfigError } from '../errors.js';
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
  evaluation: z.output<typeof evaluationLine>;
}

async function run(folders: readonly string[]): Promise<void> {
  const runs = await Promise.all(folders.map(summary));
  const kinds = [...new Set(runs.map(({ model }) => model.modality?.kind ?? 'text'))];
  if (kinds.length > 1)
    throw new ConfigError(
      `these are runs of ${kinds.join(' and ')}, which have no common measure: compare those of one kind`,
    );
  const [quality, unit] =
    kinds[0] === 'text'
      ? (['perplexity', 'tokens'] as const)
      : ([
          runs.every(({ evaluation }) => evaluation.measures?.accuracy !== undefined) ? 'accuracy' : 'loss',
          'positions',
        ] as const);
  const rows = [
    [
      'run',
      'layers',
      'parameters',
      'steps',
      `validation ${quality}`,
      ...CONTEXTS.map((n) => `state at ${n.toLocaleString('en')} ${unit}`),
    ],
    ...runs.map(({ name, model, evaluation }) => {
      return [
        name,
        model.pattern,
        formatCount(countParameters(parametersOf(model))),
        String(evaluation.step),
        shown(evaluation, quality),
        ...CONTEXTS.map((length) => formatBytes(stateBytes(model.state, length))),
      ];
    }),
  ];
  process.stdout.write(`${table(rows)}\n`);
}

const evaluationLine = z.object({
  event: z.literal('evaluation'),
  step: z.number(),
  loss: z.number(),
  measures: z.object({ accuracy: z.number().optional() }).optional(),
});

function shown(
  { loss, measures }: z.output<typeof evaluationLine>,
  quality: 'perplexity' | 'accuracy' | 'loss',
): string {
  if (quality === 'perplexity') return Math.exp(loss).toFixed(2);
  return quality === 'loss' ? loss.toFixed(4) : `${(100 * measures!.accuracy!).toFixed(1)} %`;
}

/** A checkpoint, and the step of its weights, if that is an earlier one. */
const savedLine = z.object({ event: z.literal('saved'), of: z.number().optional() });

/** The events of a kind in the lines of a log; a killed run may leave an incomplete line. */
function eventsOf<T>(lines: readonly string[], schema: z.ZodType<T>): T[] {
  return lines.flatMap((line) => schema.safeParse(parseJson(line)).data ?? []);
}

async function summary(folder: string): Promise<RunSummary> {
  const path = join(folder, 'metrics.jsonl');
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new CheckpointError(`${folder} is no training run: ${path} cannot be read`, { cause: error });
  });
  const lines = text.split('\n');
  const evaluations = eventsOf(lines, evaluationLine);
  const of = eventsOf(lines, savedLine).at(-1)?.of;
  const ofWeights = evaluations.filter(({ step }) => step === (of ?? step)).at(-1);
  if (!ofWeights) throw new CheckpointError(`${path} has no evaluation yet`);
  const model = await readModel(checkpointFolder(folder));
  return { name: basename(folder), model, evaluation: ofWeights };
}
