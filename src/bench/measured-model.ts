/** The model that a command measures: an existing one, or random weights of a published shape. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { modelFolder } from '../models/index.js';
import { positive } from './positive.js';
import { writeServedModel } from './serve-model.js';
import { SHAPES, type ShapeName } from './shapes.js';

/** The values of the options that `addShapeOptions` adds. */
export interface ShapeOptions {
  readonly shape?: ShapeName;
  readonly bits: number;
}

/** Adds the options for random weights instead of a model. */
export function addShapeOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--shape <name>', 'random weights of this shape instead of a model').choices(
        Object.keys(SHAPES),
      ),
    )
    .option('--bits <n>', 'bits of the weights of a shape: 4, 8 or 16', positive, 4);
}

/** Calls `use` with the model's folder and name; a model of random weights is deleted afterwards. */
export async function withMeasuredModel<T>(
  model: string,
  { shape, bits }: ShapeOptions,
  use: (folder: string, name: string) => Promise<T>,
): Promise<T> {
  if (shape === undefined) return use(modelFolder(model), model);
  const made = await mkdtemp(join(tmpdir(), 'heddle-bench-'));
  try {
    const { folder } = await writeServedModel(made, shape, bits as 4 | 8 | 16);
    return await use(folder, `${shape}, ${bits} bits`);
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}
