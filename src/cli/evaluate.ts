/** `heddle evaluate`: a model's perplexity on the documents that training held out. */
import type { Command } from 'commander';
import { openDevice } from '../engine/index.js';
import { modelFolder, openModel } from '../models/index.js';
import { encodeCorpus, loadCorpus, splitCorpus, Tokenizer } from '../text/index.js';
import { defaultSequence, evaluateModel } from '../train/index.js';
import { formatCount } from './format.js';
import { adapterFolder, adapterOption, MODEL_HELP } from './loading-options.js';
import { number, wholeNumber } from './options.js';

export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .argument('<corpus>', 'a text file, a folder, or a shipped corpus (sotu, moby-dick)')
    .option(
      '--validation <fraction>',
      'share of the documents that is held out, as in training',
      number,
      0.05,
    )
    .option('--sequence <tokens>', "tokens in a sequence (default: the model's)", wholeNumber)
    .addOption(adapterOption())
    .action(run);
}

async function run(
  name: string,
  source: string,
  flags: { validation: number; sequence?: number; adapter?: string },
): Promise<void> {
  const folder = modelFolder(name);
  const { model, weights } = await openModel(folder, adapterFolder(flags));
  const tokenizer = await Tokenizer.load(folder);
  const corpus = await loadCorpus(source);
  for (const path of corpus.leftOut) process.stderr.write(`left out ${path}\n`);
  const { validation } = splitCorpus(corpus, { validationFraction: flags.validation });
  const tokens = encodeCorpus(tokenizer, validation);
  const sequence = flags.sequence ?? defaultSequence(model);
  const result = await evaluateModel(model, weights, tokens, sequence, await openDevice('cpu'));
  process.stdout.write(
    `perplexity ${result.perplexity.toFixed(2)} (${result.loss.toFixed(4)} nats/token) over ${formatCount(result.tokens)} held-out tokens, ${sequence} at a time\n`,
  );
}
