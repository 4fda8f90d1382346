/** `heddle evaluate`: measures a model's perplexity on held-out documents. */
import type { Command } from 'commander';
import { positive } from '../bench/positive.js';
import { openDevice } from '../engine/index.js';
import { modelFolder, openModel, wrongKind } from '../models/index.js';
import {
  ChatTemplate,
  encodeCorpus,
  type IdForm,
  isJsonFile,
  loadCorpus,
  loadTokenizerOrIds,
  splitCorpus,
  type Tokenizer,
} from '../text/index.js';
import {
  defaultSequence,
  type Evaluation,
  evaluateExamples,
  evaluateModel,
  TRAINING_DEFAULTS,
} from '../train/index.js';
import { formatCount } from './format.js';
import { hasIds, idsOption } from './ids-to-learn.js';
import { adapterFolder, adapterOption, MODEL_HELP } from './loading-options.js';
import { share, wholeNumber } from './options.js';
import { isPairs, toLearn } from './to-learn.js';

interface EvaluateFlags {
  validation: number;
  sequence?: number;
  seed: number;
  adapter?: string;
  ids?: IdForm;
}

/** Arguments, options and action of `heddle evaluate`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .argument(
      '<corpus>',
      'a text file, a folder, token ids, pairs of texts (.tsv), examples (.jsonl), or a shipped corpus (sotu, moby-dick)',
    )
    .option(
      '--validation <fraction>',
      'share of the documents or pairs that is held out, as in training',
      share,
      0.05,
    )
    .option('--sequence <tokens>', "tokens in a sequence (default: the model's)", positive)
    .option('--seed <n>', 'which pairs are held out, as in training', wholeNumber, TRAINING_DEFAULTS.seed)
    .addOption(idsOption())
    .addOption(adapterOption())
    .action(run);
}

/** Sequences of a batch. */
const BATCH = 8;

async function run(name: string, source: string, flags: EvaluateFlags): Promise<void> {
  const folder = modelFolder(name);
  const { model, weights } = await openModel(folder, adapterFolder(flags));
  if (model.modality) throw wrongKind(model.modality.kind, ['text']);
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  const device = await openDevice('cpu');
  const isText = !model.source && !isPairs(source) && !isJsonFile(source) && !(await hasIds(source, flags));
  let sequence = flags.sequence ?? defaultSequence(model);
  let result: Evaluation;
  if (isText) {
    result = await evaluateModel(
      model,
      weights,
      await textHeldOut(source, tokenizer, flags),
      sequence,
      device,
    );
  } else {
    const text = await toLearn(source, model.source !== undefined, { ...flags, documents: 'join' });
    const template = await ChatTemplate.load(folder, {}, adapterFolder(flags));
    const encoded = await text.encode(tokenizer, model, template);
    sequence = flags.sequence ?? encoded.sequence(model);
    const settings = { ...TRAINING_DEFAULTS, seed: flags.seed, batch: BATCH, sequence };
    const { objective, validation } = encoded.data(model, settings);
    result = await evaluateExamples(model, weights, objective, validation, BATCH, device);
  }
  process.stdout.write(
    `perplexity ${result.perplexity!.toFixed(2)} (${result.loss.toFixed(4)} nats/token) over ${formatCount(result.tokens)} held-out tokens, ${sequence} at a time\n`,
  );
}

/** The training part of a text, which may be long, is not encoded. */
async function textHeldOut(
  source: string,
  tokenizer: Tokenizer,
  { validation: validationFraction }: EvaluateFlags,
): Promise<Int32Array> {
  const corpus = await loadCorpus(source);
  for (const path of corpus.leftOut) process.stderr.write(`left out ${path}\n`);
  return encodeCorpus(tokenizer, splitCorpus(corpus, { validationFraction }).validation);
}
