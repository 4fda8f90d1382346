/** `heddle train` on texts, token ids or pairs: trains a language model. */
import { join } from 'node:path';
import { heddleCall } from '../command-line.js';
import type { Device } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  CHECKPOINT,
  countParameters,
  type LoraConfig,
  type Model,
  modelFolder,
  parametersOf,
  readModel,
  withLora,
} from '../models/index.js';
import { ChatTemplate, type IdForm, idTokenizer, type Tokenizer } from '../text/index.js';
import {
  type DocumentForm,
  expectNoRun,
  FINE_TUNING_RATES,
  phasesOf,
  TRAINING_DEFAULTS,
  type TrainingInput,
  type TrainingSettings,
} from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount } from './format.js';
import { chatTemplateFor, type ModelFlags, modelFor, tokenizerFor } from './model-to-train.js';
import { readConfigFile } from './named-file.js';
import { type RunFlags, settingsOf } from './run-flags.js';
import type { EncodedText } from './text-to-learn.js';
import { toLearn } from './to-learn.js';

/** The options of language models. */
export interface TextFlags extends Pick<ModelFlags, 'from' | 'tokenizer' | 'vocab'> {
  documents: DocumentForm | 'join';
  validation: number;
  lora?: number;
  loraAlpha?: number;
  teacher?: string;
  distill: number;
  match: number;
  ids?: IdForm;
}

type TextRunFlags = RunFlags & TextFlags;

/** Trains a language model. Throws `ConfigError` for options that do not fit, `DataError` for the corpus. */
export async function trainText(source: string, options: TextRunFlags): Promise<void> {
  const lora = loraOf(options);
  const teacher = options.teacher === undefined ? undefined : modelFolder(options.teacher);
  if (teacher !== undefined) await readModel(teacher);
  const { from: named } = options;
  const from = named === undefined ? undefined : modelFolder(named);
  if (!options.resume) await expectNoRun(options.out);
  const base = from === undefined ? undefined : await readModel(from);
  const config = options.config === undefined ? undefined : readConfigFile(options.config);
  const readsSource = base
    ? base.source !== undefined
    : options.design === 'encoder-decoder' || config?.source !== undefined;
  const text = await toLearn(source, readsSource, options);
  // Ids need none.
  const own = await tokenizerFor(text, options);
  const model = base ?? modelFor(options, text, own, config);
  const tokenizer = own ?? idTokenizer(model.vocabSize, `${source} has token ids`);
  const template = from === undefined ? undefined : await ChatTemplate.load(from);
  const chatTemplate = own && chatTemplateFor(own, text, template);
  const learned = await text.encode(tokenizer, model, chatTemplate === undefined ? template : undefined);
  const settings = settingsOf(options, options.sequence ?? learned.sequence(model), defaultRate(options));
  announce({ ...options, lora }, model, learned, settings);

  const made = lora ? [named!, '--adapter', options.out] : [join(options.out, CHECKPOINT)];
  await followRun(
    {
      model,
      ...(from !== undefined && { from }),
      ...(lora && { lora }),
      ...(teacher !== undefined && {
        teacher: { folder: teacher, weight: options.distill, match: options.match },
      }),
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
      next: `${heddleCall(text.isConversation ? 'chat' : 'generate', ...made)} ${learned.example}`.trimEnd(),
      unit: 'tokens',
    },
  );
}

/** Says what will be trained on what, and how. */
function announce(
  { lora, teacher, distill, match, device }: Omit<TextRunFlags, 'lora'> & { lora: LoraConfig | undefined },
  model: Model,
  learned: EncodedText,
  settings: TrainingSettings,
): void {
  const parameters = countParameters(parametersOf(model));
  say(`corpus      ${learned.about}`);
  say(`model       ${model.pattern}, ${formatCount(parameters)} parameters, vocabulary ${model.vocabSize}`);
  if (teacher !== undefined)
    say(`teacher     ${teacher}: its words count ${distill}, its hidden states ${match}`);
  if (lora) {
    const adapters = countParameters(parametersOf(withLora(model, lora))) - parameters;
    say(`adapters    ${formatCount(adapters)} parameters of rank ${lora.rank}, which alone are trained`);
  }
  const perStep = settings.batch * settings.accumulate * settings.sequence;
  say(
    `run         ${settings.steps} steps ${settings.phases ? 'in phases' : `of ${formatCount(perStep)} tokens`} (${learned.epochs(settings).toFixed(1)} epochs), seed ${settings.seed}, on ${device}`,
  );
  for (const [i, { start, end, settings: own }] of (settings.phases ? phasesOf(settings) : []).entries()) {
    const rates = Object.entries(own.rates ?? {}).map(([pattern, factor]) => `, ${pattern} at ${factor}`);
    say(
      `phase ${i + 1}     steps ${start + 1} to ${end}: ${own.batch * own.accumulate} sequences of ${own.sequence}${rates.join('')}`,
    );
  }
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
function loraOf({ from, lora: rank, loraAlpha }: TextRunFlags): LoraConfig | undefined {
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

function defaultRate({ from, lora }: TextRunFlags): number {
  if (lora !== undefined) return FINE_TUNING_RATES.lora;
  return from === undefined ? TRAINING_DEFAULTS.learningRate : FINE_TUNING_RATES.whole;
}
