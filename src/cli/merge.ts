/** `heddle merge`: merges an adapter into the weights of its model. */
import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { writeFolderAtomic } from '../checkpoint/index.js';
import { StorageError } from '../errors.js';
import {
  checkpointFolder,
  copyCompanions,
  mergeAdapter,
  modelFolder,
  readAdapter,
  readModel,
  readWeights,
  writeModelLike,
} from '../models/index.js';
import { TEMPLATE_FILE } from '../text/index.js';
import { leavingNothing } from './interrupt.js';

/** Arguments and action of `heddle merge`. */
export function configure(command: Command): void {
  command
    .argument('<model>', 'the model that the adapter was trained on: its folder, or as for other commands')
    .argument('<adapter>', "the adapter's folder, or that of the training run")
    .argument('<out>', 'where to')
    .action(run);
}

async function run(name: string, adapterName: string, out: string): Promise<void> {
  // The output folder is replaced as a whole, so it must not be that of the model.
  if (existsSync(out)) throw new StorageError(`${out} is there already: name a folder that is not`);
  const folder = modelFolder(name);
  const model = await readModel(folder);
  const adapterFolder = checkpointFolder(adapterName);
  const adapter = await readAdapter(adapterFolder, model, folder);
  const weights = mergeAdapter(await readWeights(folder, model), adapter);
  await leavingNothing(() =>
    writeFolderAtomic(out, async (temporary) => {
      await writeModelLike(folder, temporary, { ...adapter.model, adapters: () => undefined }, weights);
      await copyCompanions(folder, temporary);
      // An adapter may have been trained on conversations of another form.
      if (existsSync(join(adapterFolder, TEMPLATE_FILE)))
        await copyFile(join(adapterFolder, TEMPLATE_FILE), join(temporary, TEMPLATE_FILE));
    }),
  );
  process.stderr.write(`${out}: the model of ${name} with the adapter of ${adapterName}, in float32\n`);
}
