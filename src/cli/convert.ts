/** `heddle convert`: converts a transformer to a hybrid. */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { parseJson, writeFolderAtomic } from '../checkpoint/index.js';
import { heddleCall } from '../command-line.js';
import { ConfigError, StorageError } from '../errors.js';
import {
  convert,
  copyCompanions,
  countParameters,
  type ModelConfigInput,
  modelFolder,
  parametersOf,
  readModel,
  readWeights,
  writeModel,
} from '../models/index.js';
import { say } from './follow-run.js';
import { formatCount } from './format.js';
import { leavingNothing } from './interrupt.js';
import { MODEL_HELP } from './loading-options.js';
import { each, wholeNumber } from './options.js';

/** Arguments, options and action of `heddle convert`. */
export function configure(command: Command): void {
  command
    .argument('<model>', `a transformer: ${MODEL_HELP}`)
    .argument('<out>', 'where to')
    .requiredOption(
      '--pattern <letters>',
      'the layers of the hybrid, one for each attention layer and MLP of the transformer, as in (G-*-)x6',
    )
    .option(
      '--set <key=value>',
      'another key of its config, as in attention_window=128; may be given several times',
      each,
    )
    .option('--seed <n>', 'seed of what is new', wholeNumber, 1)
    .action(run);
}

async function run(
  name: string,
  out: string,
  { pattern, set = [], seed }: { pattern: string; set?: string[]; seed: number },
): Promise<void> {
  if (existsSync(out)) throw new StorageError(`${out} is there already: name a folder that is not`);
  const folder = modelFolder(name);
  const source = await readModel(folder);
  const keys = Object.fromEntries(set.map(keyOf)) as Partial<ModelConfigInput>;
  const { model, weights, fresh } = convert(source, await readWeights(folder, source), pattern, {
    keys,
    seed,
  });
  await leavingNothing(() =>
    writeFolderAtomic(out, async (temporary) => {
      await writeModel(temporary, model, weights);
      await copyCompanions(folder, temporary);
    }),
  );
  const all = parametersOf(model);
  const isNew = new Set(fresh);
  const count = (some: typeof all): string => formatCount(countParameters(some));
  say(
    `${out}: ${model.pattern}, ${count(all)} parameters, of which ${count(all.filter(({ name }) => isNew.has(name)))} are new in part or as a whole`,
  );
  say(
    `next:  ${heddleCall('train', '<text>', '--from', out, '--teacher', name, '--match', '1', '--out', '<run>')}`,
  );
}

/** Parses `key=value`, with a key of config.json. */
function keyOf(assignment: string): [string, unknown] {
  const [key, value] = assignment.split(/=(.*)/s);
  if (!key || value === undefined)
    throw new ConfigError(`--set ${assignment}: expected a key and a value, as in attention_window=128`);
  return [key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), parseJson(value) ?? value];
}
