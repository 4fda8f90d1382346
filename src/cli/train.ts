/** `heddle train`: trains a new model on a corpus, or fine-tunes an existing one. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { positive } from '../bench/positive.js';
import { heddleCall } from '../command-line.js';
import type { Device } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  CHECKPOINT,
  countParameters,
  DESIGNS,
  hybridModel,
  IMAGE_DESIGNS,
  isImageDesign,
  type LoraConfig,
  type Model,
  modelFolder,
  modelFromConfig,
  parametersOf,
  parseConfigText,
  preset,
  presetAfter,
  readModel,
  SIZES,
  SOURCE_DESIGNS,
  withLora,
} from '../models/index.js';
import { reasonOf } from '../platform/unreadable.js';
import { findClasses, IMAGE_FILE, SOUND_FILE } from '../signals/index.js';
import {
  ChatTemplate,
  findTokenizer,
  type IdForm,
  idTokenizer,
  isPairTemplate,
  Tokenizer,
  tokenizerFiles,
  trainBpe,
} from '../text/index.js';
import {
  DOCUMENT_FORMS,
  type DocumentForm,
  expectNoRun,
  FINE_TUNING_RATES,
  phasesOf,
  TRAINING_DEFAULTS,
  type TrainingInput,
} from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount } from './format.js';
import { idsOption } from './ids-to-learn.js';
import { above0, atLeast0, choice, each, share, wholeNumber } from './options.js';
import {
  addDeviceFlags,
  addGroupFlags,
  averageOption,
  deviceOptionsOf,
  keepOption,
  optimizerOption,
  phasesOption,
  type RunFlags,
  settingsOf,
} from './run-flags.js';
import type { EncodedText, TextToLearn } from './text-to-learn.js';
import { isPairs, toLearn } from './to-learn.js';
import { trainClasses } from './train-classes.js';
import { augmentationFrom, type ImageFlags, imagesByClass } from './train-images.js';
import { isTable, type SeriesFlags, trainSeries } from './train-series.js';
import { soundsByClass } from './train-sounds.js';

/** Tokens of a new tokenizer. */
const NEW_VOCABULARY = 4096;

interface TrainOptions extends RunFlags, Partial<SeriesFlags>, ImageFlags {
  documents: DocumentForm | 'join';
  validation: number;
  from?: string;
  lora?: number;
  loraAlpha?: number;
  tokenizer?: string;
  teacher?: string;
  distill: number;
  match: number;
  vocab?: number;
  ids?: IdForm;
}

/** Arguments, options and action of `heddle train`. */
export function configure(command: Command): void {
  const d = TRAINING_DEFAULTS;
  command
    .argument(
      '<corpus>',
      'what to learn from: a text, a folder of texts, token ids, a table, pairs of texts, or texts of images or sounds (.tsv), or a folder of images or sounds by class',
    )
    .requiredOption('-o, --out <folder>', 'where the run goes: <folder>/checkpoint is the model')
    .option('--resume', 'go on from the checkpoint in the folder', false)
    .optionsGroup('The model:')
    .addOption(
      new Option(
        '--from <folder>',
        'train this existing model further, with its own tokenizer, instead of a new one',
      ).conflicts(['design', 'size', 'config', 'vocab', 'tokenizer']),
    )
    .option(
      '--lora <rank>',
      'keep the weights of that model as they are, and train adapters of this rank beside them',
      positive,
    )
    .option('--teacher <model>', 'distillation: also learn the next-token probabilities of this model')
    .option(
      '--distill <weight>',
      'weight of those probabilities in the loss, against 1 for the text',
      atLeast0,
      1,
    )
    .option(
      '--match <weight>',
      "weight of the distance from the teacher's hidden states in the loss",
      atLeast0,
      0,
    )
    .option('--lora-alpha <alpha>', 'adapters are scaled by alpha / rank (default: twice the rank)', above0)
    .option(
      '--design <name>',
      `a shipped design: ${DESIGNS.join(', ')}; for images by class also ${IMAGE_DESIGNS.join(', ')}; for pairs also ${SOURCE_DESIGNS.join(', ')}`,
      choice([...DESIGNS, ...IMAGE_DESIGNS, ...SOURCE_DESIGNS]),
      'hybrid',
    )
    .option('--size <name>', `its size: ${SIZES.join(', ')}`, choice(SIZES), 'small')
    .option('--config <file>', 'a config.json of your own, instead of a design and a size')
    .optionsGroup('What it learns from:')
    .option(
      '--tokenizer <folder>',
      'use the tokenizer in this folder; otherwise one is trained on the corpus',
    )
    .option(
      '--vocab <tokens>',
      `vocabulary of a new tokenizer (default: ${NEW_VOCABULARY}), or of a model of token ids (default: as many as the corpus has)`,
      positive,
    )
    .addOption(idsOption())
    .option(
      '--target <column>',
      'the corpus is a table (.csv, .tsv): learn to forecast this column; may be given several times',
      each,
    )
    .option(
      '--channel <column>',
      'another column to read; may be given several times (default: all columns of numbers)',
      each,
    )
    .option(
      '--time <column>',
      'the column of times, from which a forecaster learns the effects of the calendar: weekdays, hours, holidays',
    )
    .option('--horizon <rows>', 'rows that are forecast at once', positive, 24)
    .option(
      '--patch <size>',
      'rows of a table that are read as one position (default: 1), or the side of an image patch in pixels',
      positive,
    )
    .option(
      '--image-size <pixels>',
      'stretch all images to this size, as in 32 or 48x32 (width x height)',
      imageSize,
    )
    .option(
      '--augment <list>',
      'vary images by class in each epoch, as in mirror,shift=2,turn=10,scale=0.1,erase=0.25: half of them mirrored, moved by up to 2 pixels, turned by up to 10 degrees, larger or smaller by up to a tenth, and a rectangle erased in a quarter of them',
      augmentationFrom,
    )
    .option(
      '--documents <how>',
      'how a corpus is cut into sequences: join (one text, cut anywhere), pack (whole documents side by side, which do not see each other), or carry (a document continues, with its state, where the batch before ended)',
      choice(['join', ...DOCUMENT_FORMS]),
      'join',
    )
    .option('--validation <fraction>', 'share of the documents that is held out for evaluation', share, 0.05)
    .optionsGroup('Steps:')
    .option('--steps <n>', 'optimizer steps; with 0 the model is written as it begins', wholeNumber, d.steps)
    .option('--batch <sequences>', 'sequences in a batch', positive, d.batch)
    .option('--sequence <tokens>', "tokens in a sequence (default: the model's)", positive)
    .option('--accumulate <batches>', 'batches a step', positive, d.accumulate)
    .option(
      '--learning-rate <rate>',
      `highest learning rate (default: ${d.learningRate}; with --from ${FINE_TUNING_RATES.whole}, with --lora ${FINE_TUNING_RATES.lora})`,
      above0,
    )
    .option(
      '--rate <pattern=factor>',
      'multiply the learning rate of the parameters with such names, as in `*.mixer.*=0.1`, or of the layers of a letter, as in `layer:S=0.1` (0 leaves them as they are); may be given several times, and the last that fits decides',
      rateFactor,
    )
    .addOption(phasesOption())
    .addOption(optimizerOption())
    .addOption(averageOption())
    .addOption(keepOption())
    .option('--warmup <steps>', 'steps until the highest learning rate', wholeNumber, d.warmupSteps)
    .option('--seed <n>', 'seed of all randomness', wholeNumber, d.seed)
    .option('--evaluate-every <steps>', 'steps between evaluations', wholeNumber, d.evaluateEvery)
    .option('--save-every <steps>', 'steps between checkpoints', wholeNumber, d.saveEvery)
    .optionsGroup('Where it computes:');
  addGroupFlags(addDeviceFlags(command)).action(run);
}

async function run(source: string, options: TrainOptions, command: Command): Promise<void> {
  // All options are checked before anything is read.
  deviceOptionsOf(options);
  if (options.target) return trainSeries(source, { ...options, target: options.target }, command);
  if (isTable(source) && !isPairs(source)) {
    throw new ConfigError(
      `${source} is a table: name the columns to forecast with --target, or give a text file to learn from its words`,
    );
  }
  const images = await findClasses(source, IMAGE_FILE);
  if (options.augment && !images)
    throw new ConfigError(`--augment varies images by class, and ${source} has none: leave it out`);
  if (images) return trainClasses(source, images, imagesByClass(options), options, command);
  const sounds = await findClasses(source, SOUND_FILE);
  if (sounds) return trainClasses(source, sounds, soundsByClass(), options, command);
  if (isPairs(source) && options.documents !== 'join') {
    throw new ConfigError(`--documents cuts a corpus, and ${source} has pairs of texts: leave it out`);
  }
  const lora = loraOf(options);
  if (options.teacher !== undefined) await readModel(modelFolder(options.teacher));
  const { from: named } = options;
  const from = named === undefined ? undefined : modelFolder(named);
  if (!options.resume) await expectNoRun(options.out);
  const base = from === undefined ? undefined : await readModel(from);
  const config = await configOf(options);
  const readsSource = base
    ? base.source !== undefined
    : options.design === 'encoder-decoder' || config?.source !== undefined;
  const text = await toLearn(source, readsSource, options);
  // Ids need none.
  const own = await tokenizerFor(text, options);
  const model = base ?? (await modelFor(options, text, own, config));
  const tokenizer = own ?? idTokenizer(model.vocabSize, `${source} has token ids`);
  const learned = text.encode(tokenizer, model);
  const chatTemplate = own && (await chatTemplateFor(own, text, from));
  const settings = settingsOf(options, options.sequence ?? learned.sequence(model), defaultRate(options));
  const parameters = countParameters(parametersOf(model));
  const adapters = lora ? countParameters(parametersOf(withLora(model, lora))) - parameters : 0;
  const teacher =
    options.teacher === undefined
      ? undefined
      : { folder: modelFolder(options.teacher), weight: options.distill, match: options.match };
  const perStep = settings.batch * settings.accumulate * settings.sequence;
  say(`corpus      ${learned.about}`);
  say(`model       ${model.pattern}, ${formatCount(parameters)} parameters, vocabulary ${model.vocabSize}`);
  if (teacher)
    say(
      `teacher     ${options.teacher}: its words count ${teacher.weight}, its hidden states ${teacher.match}`,
    );
  if (lora)
    say(`adapters    ${formatCount(adapters)} parameters of rank ${lora.rank}, which alone are trained`);
  say(
    `run         ${settings.steps} steps ${settings.phases ? 'in phases' : `of ${formatCount(perStep)} tokens`} (${learned.epochs(settings).toFixed(1)} epochs), seed ${settings.seed}, on ${options.device}`,
  );
  for (const [i, { start, end, settings: own }] of (settings.phases ? phasesOf(settings) : []).entries()) {
    const rates = Object.entries(own.rates ?? {}).map(([pattern, factor]) => `, ${pattern} at ${factor}`);
    say(
      `phase ${i + 1}     steps ${start + 1} to ${end}: ${own.batch * own.accumulate} sequences of ${own.sequence}${rates.join('')}`,
    );
  }

  const made = lora ? [named!, '--adapter', options.out] : [join(options.out, CHECKPOINT)];
  await followRun(
    {
      model,
      ...(from !== undefined && { from }),
      ...(lora && { lora }),
      ...(teacher && { teacher }),
      ...(own && { tokenizer: own }),
      ...(chatTemplate !== undefined && { chatTemplate }),
      data: learned.data,
      settings,
      folder: options.out,
      resume: options.resume,
      sampler: (writer) => sampler(tokenizer, learned, settings.seed, writer),
    },
    options,
    {
      quality: ({ loss, perplexity }) =>
        `validation loss ${loss.toFixed(4)} nats/token, perplexity ${perplexity!.toFixed(2)}`,
      result: ({ perplexity }) => `validation perplexity ${perplexity!.toFixed(2)}`,
      made: lora ? 'adapter' : 'model',
      next: `${heddleCall('generate', ...made)} ${learned.example}`,
      unit: 'tokens',
    },
  );
}

/** Tokens that a sample has. */
const SAMPLE_LENGTH = 48;

/** Continues, or answers, a held-out text with the same seed each time, on `device`. */
function sampler(
  tokenizer: Tokenizer,
  { prompt, source }: Pick<EncodedText, 'prompt' | 'source'>,
  seed: number,
  device: Device,
): NonNullable<TrainingInput['sample']> {
  return async (model, weights) => {
    const writer = await LanguageModel.compile(model, weights, tokenizer, device);
    try {
      const session = writer.session();
      if (source) await session.readSource(source.given);
      if (prompt.length > 0) await session.read([...prompt]);
      let text = '';
      for await (const piece of session.generate({ seed, maxTokens: SAMPLE_LENGTH })) text += piece.text;
      session.dispose();
      const asked = tokenizer.decode([...prompt]);
      return { prompt: source ? `${source.name}\t${asked}` : asked, text };
    } finally {
      await writer.dispose();
    }
  };
}

/** The adapters that are asked for. */
function loraOf({ from, lora: rank, loraAlpha }: TrainOptions): LoraConfig | undefined {
  if (rank === undefined) {
    if (loraAlpha === undefined) return undefined;
    throw new ConfigError('--lora-alpha scales adapters: say of which rank they are with --lora');
  }
  if (from === undefined) {
    throw new ConfigError(
      '--lora trains adapters beside the weights of a model: name its folder with --from',
    );
  }
  return { rank, alpha: loraAlpha ?? 2 * rank };
}

/** `side`, or `width`x`height`. */
function imageSize(text: string): NonNullable<ImageFlags['imageSize']> {
  const [, width, height = width] = /^(\d+)(?:x(\d+))?$/i.exec(text.trim()) ?? [];
  const inRange = [width, height].every((side) => Number(side) >= 1 && Number(side) <= 4096);
  if (!inRange) throw new InvalidArgumentError('expected pixels from 1 to 4096, as in 32 or 48x32.');
  return { width: Number(width), height: Number(height) };
}

/** `pattern=factor`, beside those given before. */
function rateFactor(text: string, before: Record<string, number> = {}): Record<string, number> {
  const at = text.lastIndexOf('=');
  if (at < 1) throw new InvalidArgumentError('expected a pattern of names and a factor, as in *.mixer.*=0.1');
  return { ...before, [text.slice(0, at)]: atLeast0(text.slice(at + 1)) };
}

function defaultRate({ from, lora }: TrainOptions): number {
  if (lora !== undefined) return FINE_TUNING_RATES.lora;
  return from === undefined ? TRAINING_DEFAULTS.learningRate : FINE_TUNING_RATES.whole;
}

/** What stands between the texts and the model: nothing, where it reads and writes ids. */
async function tokenizerFor(
  { documents, vocabSize }: TextToLearn,
  options: TrainOptions,
): Promise<Tokenizer | undefined> {
  if (options.from !== undefined) return findTokenizer(modelFolder(options.from));
  if (options.resume) {
    // Reading the config first puts back a checkpoint whose last save was cut off, and says so where there is none.
    await readModel(join(options.out, CHECKPOINT));
    return findTokenizer(join(options.out, CHECKPOINT));
  }
  if (options.tokenizer !== undefined) return Tokenizer.load(modelFolder(options.tokenizer));
  if (vocabSize !== undefined) return undefined;
  const texts = documents.map(({ text }) => text);
  return new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: options.vocab ?? NEW_VOCABULARY })));
}

/**
 * What asks the model as it is trained: the template of pairs for pairs, null for none at all. An existing model keeps its own template
 * (undefined), unless that is one of pairs and the corpus is not, or the reverse.
 */
async function chatTemplateFor(
  tokenizer: Tokenizer,
  { chatTemplate }: TextToLearn,
  from: string | undefined,
): Promise<string | null | undefined> {
  const own = from === undefined ? undefined : await ChatTemplate.load(from);
  if (own && isPairTemplate(own) === (chatTemplate !== undefined)) return undefined;
  return chatTemplate?.(tokenizer) ?? (own && null);
}

async function modelFor(
  options: TrainOptions,
  text: TextToLearn,
  tokenizer: Tokenizer | undefined,
  config: Record<string, unknown> | undefined,
): Promise<Model> {
  const { design, size } = options;
  const source = tokenizer && text.source?.(tokenizer);
  // A small text may not yield as many tokens as asked for.
  const vocabSize = tokenizer?.vocabSize ?? options.vocab ?? text.vocabSize!;
  if (config) {
    const given = source && { source: { ...source, ...(config.source as object | undefined) } };
    return modelFromConfig(
      { ...(!tokenizer && { vocab_size: vocabSize }), ...config, ...given },
      options.config!,
    );
  }
  if (isImageDesign(design))
    throw new ConfigError(`the design '${design}' is a network of images, not of text`);
  if (source) return hybridModel(presetAfter(design, size, vocabSize, source));
  if (design === 'encoder-decoder')
    throw new ConfigError(`the design '${design}' writes one text from another: give a .tsv file of pairs`);
  const made = preset(design, size, vocabSize);
  // Which ids begin and end a text only a tokenizer says.
  return hybridModel(tokenizer ? made : { ...made, bosTokenId: undefined, eosTokenId: undefined });
}

/** What a config of the caller's own holds, if there is one. */
async function configOf({ config: path }: TrainOptions): Promise<Record<string, unknown> | undefined> {
  if (path === undefined) return undefined;
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new ConfigError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  });
  return parseConfigText(text, path);
}
