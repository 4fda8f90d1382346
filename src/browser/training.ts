/** Training in a tab: learns a text with the same `train` as in Node, and writes the model to the browser's private file system. */
import { packTar } from 'modern-tar';
import {
  join,
  makeFolder,
  readBytes,
  readFolder,
  readText,
  recoverFolder,
  statsOf,
  writeFileAtomic,
} from '#platform';
import { parseJson } from '../checkpoint/index.js';
import { openDevice } from '../engine/index.js';
import { CheckpointError, TrainingError } from '../errors.js';
import { LanguageModel } from '../generate/index.js';
import {
  CHECKPOINT,
  type Design,
  hybridModel,
  METRICS,
  type Model,
  modelFromConfig,
  preset,
  type Size,
} from '../models/index.js';
import { remove } from '../platform/browser/storage.js';
import { encodeCorpus, splitCorpus, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import {
  defaultSequence,
  TRAINING_DEFAULTS,
  type TrainingEvent,
  type TrainingInput,
  type TrainingResult,
  type TrainingSettings,
  textData,
  train,
} from '../train/index.js';

/** A run in a tab. */
export interface TabTraining {
  /** The run's name, of letters, digits, spaces, dots and dashes. */
  readonly name: string;
  /** The text to learn. A resumed run has it already. */
  readonly text?: string;
  /** The layers and their sizes: `hybrid` and `nano` by default; or a `config.json`. */
  readonly design?: Design;
  readonly size?: Size;
  readonly config?: Readonly<Record<string, unknown>>;
  /** Tokens of the vocabulary, which is trained on the text: 512 by default. */
  readonly vocabulary?: number;
  /** The share of the text that is held out: 0.05 by default. */
  readonly validation?: number;
  /** See `TRAINING_DEFAULTS`; the default of `sequence` is the model's. */
  readonly settings?: Partial<TrainingSettings>;
  /** Resumes from the run's checkpoint, with its text and its settings; `settings.steps` may be more than they were. */
  readonly resume?: boolean;
  readonly threads?: number;
  readonly onEvent?: (event: TrainingEvent) => void;
  /** Once aborted, the run saves and returns. */
  readonly signal?: AbortSignal;
}

const RUNS = '/heddle/runs';
const TEXT = 'corpus.txt';
const OPTIONS = 'tab.json';
const VOCABULARY = 512;
const VALIDATION = 0.05;
const SAMPLE_PROMPT = 12;
const SAMPLE_LENGTH = 48;

type Kept = Required<Pick<TabTraining, 'vocabulary' | 'validation'>> &
  Pick<TabTraining, 'design' | 'size' | 'config' | 'settings'>;

/** The folder of a run. Throws `TrainingError` for an invalid name. */
export function runFolder(name: string): string {
  if (/^[\w][\w .-]{0,99}$/.test(name)) return join(RUNS, name);
  throw new TrainingError(
    `'${name}' is not a valid name of a run: expected letters, digits, spaces, dots and dashes, such as sonnets`,
  );
}

/** The names of the stored runs. */
export async function runs(): Promise<string[]> {
  return (await readFolder(RUNS).catch(() => [])).filter(({ isFolder }) => isFolder).map(({ name }) => name);
}

/** The events in a run's log, in order, also those after its last checkpoint, from which a resumed run continues. Empty if there is no such run. */
export async function runLog(name: string): Promise<TrainingEvent[]> {
  const text = await readText(join(runFolder(name), METRICS)).catch(() => '');
  const lines = text.split('\n').map((line) => parseJson(line) as TrainingEvent | undefined);
  return lines.filter((event) => event !== undefined);
}

/** Removes a run with its model. */
export async function forgetRun(name: string): Promise<void> {
  await remove(runFolder(name));
}

/** A run's folder as a tar archive, which Node can unpack. Throws `CheckpointError` if it has no model yet. */
export async function runArchive(name: string): Promise<Blob> {
  const folder = join(runFolder(name), CHECKPOINT);
  await recoverFolder(folder);
  const entries = await readFolder(folder).catch((error: unknown) => {
    throw new CheckpointError(`the run ${name} has no checkpoint yet`, { cause: error });
  });
  const files = [...entries.map((entry) => `${CHECKPOINT}/${entry.name}`), METRICS];
  const packed = await packTar(
    await Promise.all(
      files.map(async (file) => {
        const body = await readBytes(join(runFolder(name), file));
        return {
          header: { name: `${name}/${file}`, size: body.byteLength, type: 'file' as const },
          body,
        };
      }),
    ),
  );
  return new Blob([packed], { type: 'application/x-tar' });
}

/** See `train`. Only one tab at a time can train a run. */
export async function trainRun(training: TabTraining): Promise<TrainingResult> {
  const folder = runFolder(training.name);
  const lock = `heddle run ${folder}`;
  if (!navigator.locks) return run(training, folder);
  return navigator.locks.request(lock, { ifAvailable: true }, (held) => {
    if (held) return run(training, folder);
    throw new TrainingError(`another tab trains ${training.name}: stop it there, or take another name`);
  });
}

async function run(training: TabTraining, folder: string): Promise<TrainingResult> {
  const { resume = false, threads, onEvent, signal } = training;
  const kept = resume ? await keptOptions(training, folder) : await begin(training, folder);
  const text = await readText(join(folder, TEXT));
  const split = splitCorpus(
    { documents: [{ name: training.name, text }] },
    { validationFraction: kept.validation },
  );
  const trained = trainBpe(
    split.training.map((document) => document.text),
    { vocabSize: kept.vocabulary },
  );
  const tokenizer = new Tokenizer(tokenizerFiles(trained));
  const model = modelOf(kept, tokenizer.vocabSize);
  const validation = encodeCorpus(tokenizer, split.validation);
  const settings = { ...TRAINING_DEFAULTS, sequence: defaultSequence(model), ...kept.settings };
  const device = await openDevice('wasm', threads === undefined ? {} : { threads });
  try {
    return await train({
      ...{ model, tokenizer, settings, device, folder, resume },
      data: textData(encodeCorpus(tokenizer, split.training), validation),
      sample: sampler(tokenizer, [...validation.subarray(0, SAMPLE_PROMPT)], settings.seed, device),
      ...(onEvent && { onEvent }),
      ...(signal && { signal }),
    });
  } finally {
    await device.dispose();
  }
}

/** Stores the run's text and settings, so that it can be resumed. Throws `TrainingError` if the name is taken. */
async function begin(training: TabTraining, folder: string): Promise<Kept> {
  const { text, design, size, config, settings, vocabulary = VOCABULARY, validation = VALIDATION } = training;
  if (text === undefined || text.trim() === '') {
    throw new TrainingError('there is no text to learn: give some, of a few thousand words at least');
  }
  if (await isThere(join(folder, METRICS))) {
    throw new TrainingError(`there is already a run named ${training.name}: resume it, or take another name`);
  }
  const kept: Kept = {
    ...{ vocabulary, validation },
    ...(design && { design }),
    ...(size && { size }),
    ...(config && { config }),
    ...(settings && { settings }),
  };
  await makeFolder(folder);
  await writeFileAtomic(join(folder, TEXT), text);
  await writeFileAtomic(join(folder, OPTIONS), JSON.stringify(kept));
  return kept;
}

async function keptOptions({ name, settings }: TabTraining, folder: string): Promise<Kept> {
  const text = await readText(join(folder, OPTIONS)).catch((error: unknown) => {
    throw new TrainingError(`there is no run named ${name} to resume`, { cause: error });
  });
  const kept = JSON.parse(text) as Kept;
  return { ...kept, settings: { ...kept.settings, ...settings } };
}

async function isThere(path: string): Promise<boolean> {
  return statsOf(path).then(
    () => true,
    () => false,
  );
}

function modelOf({ config, design = 'hybrid', size = 'nano' }: Kept, vocabSize: number): Model {
  if (config) return modelFromConfig({ ...config, vocab_size: vocabSize }, 'the config that was given');
  return hybridModel(preset(design, size, vocabSize));
}

/** Continues a held-out text, each time with the same seed. */
function sampler(
  tokenizer: Tokenizer,
  prompt: readonly number[],
  seed: number,
  device: TrainingInput['device'],
): NonNullable<TrainingInput['sample']> {
  return async (model, weights) => {
    const writer = await LanguageModel.compile(model, weights, tokenizer, device);
    try {
      const session = writer.session();
      await session.read(prompt);
      let text = '';
      for await (const piece of session.generate({ seed, maxTokens: SAMPLE_LENGTH })) text += piece.text;
      session.dispose();
      return { prompt: tokenizer.decode([...prompt]), text };
    } finally {
      await writer.dispose();
    }
  };
}
