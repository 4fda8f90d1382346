/** `heddle train`: from a corpus to a model in a folder, or from a model to one that knows the corpus too. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { heddleCall } from '../command-line.js';
import { type Device, type DeviceName, openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  CHECKPOINT,
  countParameters,
  DESIGNS,
  type Design,
  hybridModel,
  type LoraConfig,
  type Model,
  modelFolder,
  modelFromConfig,
  parametersOf,
  parseConfigText,
  preset,
  readModel,
  SIZES,
  type Size,
  withLora,
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
  defaultSequence,
  expectNoRun,
  FINE_TUNING_RATES,
  TRAINING_DEFAULTS,
  type TrainingEvent,
  type TrainingInput,
  type TrainingSettings,
  textData,
  train,
} from '../train/index.js';
import { formatCount, formatDuration, formatRate } from './format.js';
import { deviceOption, threadsOption } from './loading-options.js';
import { choice, number, wholeNumber } from './options.js';

interface TrainOptions {
  out: string;
  from?: string;
  lora?: number;
  loraAlpha?: number;
  design: Design;
  size: Size;
  config?: string;
  tokenizer?: string;
  vocab: number;
  steps: number;
  batch: number;
  sequence?: number;
  accumulate: number;
  learningRate?: number;
  rate?: Record<string, number>;
  warmup: number;
  seed: number;
  evaluateEvery: number;
  saveEvery: number;
  validation: number;
  device: DeviceName;
  threads?: number;
  resume: boolean;
}

export function configure(command: Command): void {
  const d = TRAINING_DEFAULTS;
  command
    .argument('<corpus>', 'the text to learn from')
    .requiredOption('-o, --out <folder>', 'where the run goes: <folder>/checkpoint is the model')
    .addOption(
      new Option(
        '--from <folder>',
        'train this model further (its folder, or as for other commands), with its own tokenizer, instead of a new one',
      ).conflicts(['design', 'size', 'config', 'vocab', 'tokenizer']),
    )
    .option(
      '--lora <rank>',
      'leave the weights of that model as they are, and train adapters of this rank beside them',
      wholeNumber,
    )
    .option('--lora-alpha <alpha>', 'adapters are scaled by alpha / rank (default: twice the rank)', number)
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
    .option('--sequence <tokens>', "tokens in a sequence (default: the model's)", wholeNumber)
    .option('--accumulate <batches>', 'batches a step', wholeNumber, d.accumulate)
    .option(
      '--learning-rate <rate>',
      `highest learning rate (default: ${d.learningRate}; with --from ${FINE_TUNING_RATES.whole}, with --lora ${FINE_TUNING_RATES.lora})`,
      number,
    )
    .option(
      '--rate <pattern=factor>',
      'multiply the learning rate of the parameters with such names, as in `*.mixer.*=0.1` (0 leaves them as they are); may be given several times, and the last that fits decides',
      rateFactor,
    )
    .option('--warmup <steps>', 'steps until the highest learning rate', wholeNumber, d.warmupSteps)
    .option('--seed <n>', 'seed of all randomness', wholeNumber, d.seed)
    .option('--evaluate-every <steps>', 'steps between evaluations', wholeNumber, d.evaluateEvery)
    .option('--save-every <steps>', 'steps between checkpoints', wholeNumber, d.saveEvery)
    .option('--validation <fraction>', 'share of the documents that is held out', number, 0.05)
    .addOption(deviceOption())
    .addOption(threadsOption())
    .option('--resume', 'go on from the checkpoint in the folder', false)
    .action((corpus: string, options: TrainOptions) => run(corpus, options));
}

async function run(source: string, options: TrainOptions): Promise<void> {
  const { from: named } = options;
  const from = named === undefined ? undefined : modelFolder(named);
  const lora = loraOf(options);
  if (!options.resume) expectNoRun(options.out);
  const base = from === undefined ? undefined : await readModel(from);
  const corpus = await loadCorpus(source);
  for (const path of corpus.leftOut) say(`left out    ${path}`);
  const split = splitCorpus(corpus, { validationFraction: options.validation });
  const tokenizer = await tokenizerFor(split.training, options);
  const model = base ?? (await modelFor(options, tokenizer));
  const settings: TrainingSettings = {
    ...TRAINING_DEFAULTS,
    steps: options.steps,
    batch: options.batch,
    sequence: options.sequence ?? defaultSequence(model),
    accumulate: options.accumulate,
    learningRate: options.learningRate ?? defaultRate(options),
    warmupSteps: options.warmup,
    seed: options.seed,
    evaluateEvery: options.evaluateEvery,
    saveEvery: options.saveEvery,
    ...(options.rate && { rates: options.rate }),
  };
  const training = encodeCorpus(tokenizer, split.training);
  const validation = encodeCorpus(tokenizer, split.validation);
  const parameters = countParameters(parametersOf(model));
  const adapters = lora ? countParameters(parametersOf(withLora(model, lora))) - parameters : 0;
  const perStep = settings.batch * settings.accumulate * settings.sequence;
  say(
    `corpus      ${corpus.name}: ${formatCount(training.length)} tokens to learn from, ${formatCount(validation.length)} held out`,
  );
  say(`model       ${model.pattern}, ${formatCount(parameters)} parameters, vocabulary ${model.vocabSize}`);
  if (lora)
    say(`adapters    ${formatCount(adapters)} parameters of rank ${lora.rank}, which alone are trained`);
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
  const writer = options.device === 'cpu' ? device : await openDevice('cpu');
  const progress = new Progress(settings.steps, perStep);
  const result = await train({
    model,
    ...(from !== undefined && { from }),
    ...(lora && { lora }),
    tokenizer,
    data: textData(training, validation),
    settings,
    device,
    folder: options.out,
    resume: options.resume,
    sample: sampler(tokenizer, validation, settings.seed, writer),
    onEvent: (event) => progress.show(event),
    signal: interrupt.signal,
  }).finally(() => progress.clear());
  const checkpoint = join(options.out, CHECKPOINT);
  if (!result.completed) {
    say(`stopped after step ${result.step}. Go on with the same command and --resume.`);
    process.exitCode = 130;
    return;
  }
  const trained = lora ? 'adapter' : 'model';
  say(`done: validation perplexity ${result.perplexity?.toFixed(2)}, ${trained} in ${checkpoint}`);
  const made = lora ? [named!, '--adapter', options.out] : [checkpoint];
  say(`next:  ${heddleCall('generate', ...made)} --prompt "..."`);
}

/** Tokens of the held-out text that a sample goes on from, and tokens that it has. */
const SAMPLE_PROMPT = 12;
const SAMPLE_LENGTH = 48;

/** Goes on from the beginning of the held-out text, by the same dice each time, on `device`. */
function sampler(
  tokenizer: Tokenizer,
  validation: Int32Array,
  seed: number,
  device: Device,
): NonNullable<TrainingInput['sample']> {
  const prompt = [...validation.subarray(0, SAMPLE_PROMPT)];
  return async (model, weights) => {
    const writer = await LanguageModel.compile(model, weights, tokenizer, device);
    try {
      const session = writer.session();
      await session.read(prompt);
      let text = '';
      for await (const piece of session.generate({ seed, maxTokens: SAMPLE_LENGTH })) text += piece.text;
      session.dispose();
      return { prompt: tokenizer.decode(prompt), text };
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

/** `pattern=factor`, beside those given before. */
function rateFactor(text: string, before: Record<string, number> = {}): Record<string, number> {
  const at = text.lastIndexOf('=');
  if (at < 1) throw new InvalidArgumentError('expected a pattern of names and a factor, as in *.mixer.*=0.1');
  return { ...before, [text.slice(0, at)]: number(text.slice(at + 1)) };
}

function defaultRate({ from, lora }: TrainOptions): number {
  if (lora !== undefined) return FINE_TUNING_RATES.lora;
  return from === undefined ? TRAINING_DEFAULTS.learningRate : FINE_TUNING_RATES.whole;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function tokenizerFor(documents: readonly CorpusDocument[], options: TrainOptions): Promise<Tokenizer> {
  if (options.from !== undefined) return Tokenizer.load(modelFolder(options.from));
  if (options.resume) {
    // Reading the config first puts back a checkpoint whose last save was cut off, and says so where there is none.
    await readModel(join(options.out, CHECKPOINT));
    return Tokenizer.load(join(options.out, CHECKPOINT));
  }
  if (options.tokenizer !== undefined) return Tokenizer.load(modelFolder(options.tokenizer));
  const texts = documents.map(({ text }) => text);
  return new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: options.vocab })));
}

async function modelFor(options: TrainOptions, tokenizer: Tokenizer): Promise<Model> {
  if (options.config === undefined) {
    // A small text may not yield as many tokens as asked for.
    return hybridModel(preset(options.design, options.size, tokenizer.vocabSize));
  }
  const text = await readFile(options.config, 'utf8').catch((error: Error) => {
    throw new ConfigError(`${options.config} cannot be read: ${error.message}`, { cause: error });
  });
  return modelFromConfig(parseConfigText(text, options.config), options.config);
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
