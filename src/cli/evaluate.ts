/** `heddle evaluate`: a model's perplexity on the documents that training held out. */
import type { Command } from 'commander';
import { openDevice } from '../engine/index.js';
import { modelFolder, openModel } from '../models/index.js';
import { encodeCorpus, type IdForm, loadCorpus, splitCorpus, Tokenizer } from '../text/index.js';
import { defaultSequence, evaluateModel } from '../train/index.js';
import { formatCount } from './format.js';
import { hasIds, idsHeldOut, idsOption } from './ids-to-learn.js';
import { adapterFolder, adapterOption, MODEL_HELP } from './loading-options.js';
import { number, wholeNumber } from './options.js';

export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .argument('<corpus>', 'a text file, a folder, token ids, or a shipped corpus (sotu, moby-dick)')
    .option(
      '--validation <fraction>',
      'share of the documents that is held out, as in training',
      number,
      0.05,
    )
    .option('--sequence <tokens>', "tokens in a sequence (default: the model's)", wholeNumber)
    .addOption(idsOption())
    .addOption(adapterOption())
    .action(run);
}

interface EvaluateFlags {
  validation: number;
  sequence?: number;
  adapter?: string;
  ids?: IdForm;
}

async function run(name: string, source: string, flags: EvaluateFlags): Promise<void> {
  const folder = modelFolder(name);
  const { model, weights } = await openModel(folder, adapterFolder(flags));
  const tokens = (await hasIds(source, flags))
    ? await idsHeldOut(source, model, flags)
    : await textHeldOut(source, folder, flags);
  const sequence = flags.sequence ?? defaultSequence(model);
  const result = await evaluateModel(model, weights, tokens, sequence, await openDevice('cpu'));
  process.stdout.write(
    `perplexity ${result.perplexity.toFixed(2)} (${result.loss.toFixed(4)} nats/token) over ${formatCount(result.tokens)} held-out tokens, ${sequence} at a time\n`,
  );
}

async function textHeldOut(
  source: string,
  folder: string,
  { validation: validationFraction }: EvaluateFlags,
): Promise<Int32Array> {
  const tokenizer = await Tokenizer.load(folder);
  const corpus = await loadCorpus(source);
  for (const path of corpus.leftOut) process.stderr.write(`left out ${path}\n`);
  return encodeCorpus(tokenizer, splitCorpus(corpus, { validationFraction }).validation);
}
