/** `heddle train`: trains a new model on a corpus, or fine-tunes an existing one. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { positive } from '../bench/positive.js';
import { ConfigError } from '../errors.js';
import { DESIGNS, IMAGE_DESIGNS, SIZES, SOURCE_DESIGNS } from '../models/index.js';
import { findClasses, IMAGE_FILE, SOUND_FILE } from '../signals/index.js';
import { DOCUMENT_FORMS, FINE_TUNING_RATES, TRAINING_DEFAULTS } from '../train/index.js';
import { idsOption } from './ids-to-learn.js';
import { NEW_VOCABULARY } from './model-to-train.js';
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
} from './run-flags.js';
import { isPairs } from './to-learn.js';
import { trainClasses } from './train-classes.js';
import { augmentationFrom, type ImageFlags, imagesByClass } from './train-images.js';
import { isTable, type SeriesFlags, trainSeries } from './train-series.js';
import { soundsByClass } from './train-sounds.js';
import { type TextFlags, trainText } from './train-text.js';

interface TrainOptions extends RunFlags, TextFlags, Partial<SeriesFlags>, ImageFlags {}

/** Arguments, options and action of `heddle train`. */
export function configure(command: Command): void {
  const d = TRAINING_DEFAULTS;
  command
    .argument(
      '<corpus>',
      'what to learn from: a text, a folder of texts, token ids, a table, conversations and other examples (.jsonl), pairs of texts, or texts of images or sounds (.tsv), or a folder of images or sounds by class',
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
  return trainText(source, options);
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
