/** `heddle export`: a checkpoint as a model to give away, without what only training needs. */
import type { Command } from 'commander';
import { writeFolderAtomic } from '../checkpoint/index.js';
import { hybridModel, readConfig, readWeights, type StoredDtype, writeModel } from '../models/index.js';
import { Tokenizer } from '../text/index.js';
import { choice } from './options.js';

const DTYPES = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const satisfies Record<
  string,
  StoredDtype
>;
const NAMES = Object.keys(DTYPES) as (keyof typeof DTYPES)[];

export function addExportCommand(program: Command): void {
  program
    .command('export')
    .description(
      "write a checkpoint's model and tokenizer, without the optimizer's state, into a folder of its own",
    )
    .argument('<checkpoint>', "a model's folder")
    .argument('<out>', 'where to')
    .option('--dtype <name>', `how weights are stored: ${NAMES.join(', ')}`, choice(NAMES), 'float32')
    .action(run);
}

async function run(folder: string, out: string, { dtype }: { dtype: keyof typeof DTYPES }): Promise<void> {
  const config = await readConfig(folder);
  const tokenizer = await Tokenizer.load(folder);
  const weights = await readWeights(folder, hybridModel(config));
  await writeFolderAtomic(out, async (temporary) => {
    await writeModel(temporary, config, weights, DTYPES[dtype]);
    await tokenizer.save(temporary);
  });
  process.stderr.write(`${out}: the model of ${folder} in ${dtype}\n`);
}
