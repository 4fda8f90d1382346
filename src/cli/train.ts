/** `heddle train`: from a corpus to a model in a folder. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type DeviceName, openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  countParameters,
  DESIGNS,
  type Design,
  hybridModel,
  type ModelConfig,
  parametersOf,
  parseConfig,
  preset,
  readConfig,
  SIZES,
  type Size,
} from '../models/index.js';
import {
  type CorpusDocument,
  encodeCorpus,
  loadCorpus,
  splitCorpus,
  Tokenizer,
  tokenizerFiles,
  trainBpe,
} from '../text/index.js';
import {
  CHECKPOINT,
  expectNoRun,
  TRAINING_DEFAULTS,
  type TrainingEvent,
  type TrainingSettings,
  train,
} from '../train/index.js';
import { formatCount, formatDuration, formatRate } from './format.js';
import { choice, number, wholeNumber } from './options.js';

interface TrainOptions {
  out: string;
  design: Design;
  size: Size;
  config?: string;
  tokenizer?: string;
  vocab: number;
  steps: number;
  batch: number;
  sequence?: number;
  accumulate: number;
  learningRate: number;
  warmup: number;
  seed: number;
  evaluateEvery: number;
  saveEvery: number;
  validation: number;
  device: DeviceName;
  threads?: number;
  resume: boolean;
}

export function addTrainCommand(program: Command): void {
  const d = TRAINING_DEFAULTS;
  program
    .command('train')
    .description(
      'train a model on a text file, a folder of .txt and .md files, or a shipped corpus (sotu, moby-dick)',
    )
    .argument('<corpus>', 'the text to learn from')
    .requiredOption('-o, --out <folder>', 'where the run goes: <folder>/checkpoint is the model')
    .option('--design <name>', `the sibling: ${DESIGNS.join(', ')}`, choice(DESIGNS), 'hybrid')
    .option('--size <name>', `its size: ${SIZES.join(', ')}`, choice(SIZES), 'small')
    .option('--config <file>', 'a config.json of your own, instead of a design and a size')
    .option(
      '--tokenizer <folder>',
      'use the tokenizer in this folder; otherwise one is trained on the corpus',
    )
    .option('--vocab <tokens>', 'vocabulary of a new tokenizer', wholeNumber, 4096)
    .option('--steps <n>', 'optimizer steps', wholeNumber, d.steps)
    .option('--batch <sequences>', 'sequences in a batch', wholeNumber, d.batch)
    .option('--sequence <tokens>', "tokens in a sequence (default: the size's)", wholeNumber)
    .option('--accumulate <batches>', 'batches a step', wholeNumber, d.accumulate)
    .option('--learning-rate <rate>', 'highest learning rate', number, d.learningRate)
    .option('--warmup <steps>', 'steps until the highest learning rate', wholeNumber, d.warmupSteps)
    .option('--seed <n>', 'seed of all randomness', wholeNumber, d.seed)
    .option('--evaluate-every <steps>', 'steps between evaluations', wholeNumber, d.evaluateEvery)
    .option('--save-every <steps>', 'steps between checkpoints', wholeNumber, d.saveEvery)
    .option('--validation <fraction>', 'share of the documents that is held out', number, 0.05)
    .option('--device <name>', 'cpu or webgpu', choice(['cpu', 'webgpu'] as const), 'cpu')
    .option('--threads <n>', 'threads on the cpu (default: one a core)', wholeNumber)
    .option('--resume', 'go on from the checkpoint in the folder', false)
    .action((corpus: string, options: TrainOptions) => run(corpus, options));
}

async function run(source: string, options: TrainOptions): Promise<void> {
  if (!options.resume) expectNoRun(options.out);
  const corpus = await loadCorpus(source);
  const split = splitCorpus(corpus, { validationFraction: options.validation });
  const tokenizer = await tokenizerFor(split.training, options);
  const config = await configFor(options, tokenizer);
  const settings: TrainingSettings = {
    ...TRAINING_DEFAULTS,
    steps: options.steps,
    batch: options.batch,
    sequence: options.sequence ?? config.maxPositionEmbeddings,
    accumulate: options.accumulate,
    learningRate: options.learningRate,
    warmupSteps: options.warmup,
    seed: options.seed,
    evaluateEvery: options.evaluateEvery,
    saveEvery: options.saveEvery,
  };
  const training = encodeCorpus(tokenizer, split.training);
  const validation = encodeCorpus(tokenizer, split.validation);
  const parameters = countParameters(parametersOf(hybridModel(config)));
  const perStep = settings.batch * settings.accumulate * settings.sequence;
  say(
    `corpus      ${corpus.name}: ${formatCount(training.length)} tokens to learn from, ${formatCount(validation.length)} held out`,
  );
  say(`model       ${config.pattern}, ${formatCount(parameters)} parameters, vocabulary ${config.vocabSize}`);
  say(
    `run         ${settings.steps} steps of ${formatCount(perStep)} tokens (${((settings.steps * perStep) / training.length).toFixed(1)} epochs), seed ${settings.seed}, on ${options.device}`,
  );

  const device = await openDevice(
    options.device,
    options.threads === undefined ? {} : { threads: options.threads },
  );
  const interrupt = new AbortController();
  let interruptedAt = 0;
  const onSignal = (): void => {
    // Whoever stops a whole group of processes may signal this one twice at once; that is not an impatient person.
    if (interrupt.signal.aborted && performance.now() - interruptedAt > 1000) process.exit(130);
    if (interrupt.signal.aborted) return;
    interruptedAt = performance.now();
    say('\ninterrupted: saving when the present steps are done');
    interrupt.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const progress = new Progress(settings.steps, perStep);
  const result = await train({
    config,
    tokenizer,
    training,
    validation,
    settings,
    device,
    folder: options.out,
    resume: options.resume,
    onEvent: (event) => progress.show(event),
    signal: interrupt.signal,
  }).finally(() => progress.clear());
  const checkpoint = join(options.out, CHECKPOINT);
  if (!result.completed) {
    say(`stopped after step ${result.step}. Go on with the same command and --resume.`);
    process.exitCode = 130;
    return;
  }
  say(`done: validation perplexity ${result.perplexity?.toFixed(2)}, model in ${checkpoint}`);
  say(`next:  heddle generate ${checkpoint} --prompt "..."`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function tokenizerFor(documents: readonly CorpusDocument[], options: TrainOptions): Promise<Tokenizer> {
  if (options.resume) {
    // Reading the config first puts back a checkpoint whose last save was cut off, and says so where there is none.
    await readConfig(join(options.out, CHECKPOINT));
    return Tokenizer.load(join(options.out, CHECKPOINT));
  }
  if (options.tokenizer !== undefined) return Tokenizer.load(options.tokenizer);
  const texts = documents.map(({ text }) => text);
  return new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: options.vocab })));
}

async function configFor(options: TrainOptions, tokenizer: Tokenizer): Promise<ModelConfig> {
  if (options.config === undefined) {
    // A small text may not yield as many tokens as asked for.
    return preset(options.design, options.size, tokenizer.vocabSize);
  }
  const text = await readFile(options.config, 'utf8').catch((error: Error) => {
    throw new ConfigError(`${options.config} cannot be read: ${error.message}`, { cause: error });
  });
  return parseConfig(text, options.config);
}

/** A live line on a terminal, plain lines elsewhere. */
class Progress {
  private readonly live = process.stderr.isTTY === true;
  private lastLine = 0;

  constructor(
    private readonly steps: number,
    private readonly tokensPerStep: number,
  ) {}

  show(event: TrainingEvent): void {
    if (event.event === 'evaluation') {
      this.clear();
      say(
        `step ${event.step}: validation loss ${event.loss.toFixed(4)} nats/token, perplexity ${event.perplexity.toFixed(2)}`,
      );
    } else if (event.event === 'step') {
      const left = formatDuration(((this.steps - event.step) * this.tokensPerStep) / event.tokensPerSecond);
      const line = `step ${event.step}/${this.steps}  loss ${event.loss.toFixed(4)}  ${formatRate(event.tokensPerSecond)}  ${left} left`;
      if (this.live) process.stderr.write(`\r\x1b[K${line}`);
      else if (event.step === this.steps || performance.now() - this.lastLine > 10_000) {
        this.lastLine = performance.now();
        say(line);
      }
    }
  }

  clear(): void {
    if (this.live) process.stderr.write('\r\x1b[K');
  }
}
