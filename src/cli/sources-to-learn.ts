/**
 * Pairs for `heddle train`: each line has a source and a target, or a source, a prompt and a target, separated by tabs. If all sources are names of
 * images or of sounds, these files are read, relative to the folder of the table.
 */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DataError } from '../errors.js';
import {
  patchFor,
  type SourceConfig,
  type SourceGiven,
  sourceConfigOf,
  sourceValues,
} from '../models/index.js';
import {
  flawOf,
  IMAGE_FILE,
  type Image,
  readImage,
  readSound,
  resized,
  SOUND_FILE,
  type Sound,
  withChannels,
} from '../signals/index.js';
import { expectSeveralPairs, type PairLine, readPairLines, type Tokenizer } from '../text/index.js';
import { encodeAnswer, examplesRead, pairData } from '../train/index.js';
import { say } from './follow-run.js';
import { formatCount } from './format.js';
import { splitPairs, type TextToLearn } from './text-to-learn.js';
import type { ImageFlags } from './train-images.js';
import { soundFrames } from './train-sounds.js';

type Kind = 'texts' | 'images' | 'sounds';

interface SourcedText {
  /** As in the file. */
  readonly name: string;
  readonly given: SourceGiven;
  readonly prompt?: string;
  readonly target: string;
}

/** Room behind the longest source that is learned from: a new one of as many words may have more tokens, since none of them is as common. */
const SPARE = { least: 8, share: 0.25 };

/** The options of pairs, and the held-out share. */
export interface SourceOptions extends ImageFlags {
  readonly validation: number;
  readonly seed: number;
}

/** The kinds of files that sources may be. */
const FILES: readonly (readonly [Kind, RegExp])[] = [
  ['images', IMAGE_FILE],
  ['sounds', SOUND_FILE],
];

/**
 * What the sources of a file are: images or sounds where all of them are names of such. Throws `DataError`, with the line, where some are,
 * and are there.
 */
export async function sourceKindOf(path: string): Promise<Kind> {
  const lines = await readPairLines(path);
  for (const [kind, pattern] of FILES) {
    const others = lines.filter(({ cells }) => !pattern.test(cells[0]!));
    if (lines.length > 0 && others.length === 0) return kind;
    const named = lines.find(({ cells }) => pattern.test(cells[0]!) && existsSync(besides(path, cells[0]!)));
    if (named) {
      throw new DataError(
        `${path}, line ${others[0]!.line}: the source is none of the ${kind}, and in line ${named.line} it is one: have ${kind} in all lines, or texts`,
      );
    }
  }
  return 'texts';
}

/** Resolves a path relative to the table's folder. */
function besides(path: string, name: string): string {
  return resolve(dirname(path), name);
}

/** Reads the file, and all that it names. Throws `DataError`, with the line, for what is no pair, has an empty side, or cannot be read. */
export async function sourcesToLearn(path: string, kind: Kind, options: SourceOptions): Promise<TextToLearn> {
  const pairs: SourcedText[] = [];
  for (const each of await readPairLines(path)) pairs.push(await sourcedText(path, kind, each));
  expectSeveralPairs(path, pairs);
  const { given, about, config } = together(path, kind, pairs, options);
  const { training, validation } = splitPairs(
    path,
    pairs.map((pair, i) => ({ ...pair, given: given[i]! })),
    ({ name, prompt, target }) => [name, ...(prompt === undefined ? [] : [prompt]), target],
    options,
  );
  return {
    documents: training.flatMap(({ name, prompt = '', target }) =>
      [kind === 'texts' ? name : '', prompt, target].map((text) => ({ text })),
    ),
    source: config,
    encode(tokenizer, model) {
      const reads = sourceConfigOf(model);
      if (reads.kind !== kind)
        throw new DataError(`${path} has ${kind} as sources, and the model reads ${reads.kind}`);
      const encode = (pair: SourcedText) => ({
        ...encodeAnswer(tokenizer, pair),
        inputs: sourceValues(reads, pair.given, tokenizer),
      });
      const [learned, heldOut] = [training.map(encode), validation.map(encode)];
      const longest = [...learned, ...heldOut].reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
      const { tokens, prefix } = heldOut[0]!;
      const first = validation[0]!;
      const ask = first.prompt === undefined ? '' : ' --prompt "..."';
      return {
        data: pairData(learned, heldOut),
        about: `${path}: ${formatCount(training.length)} ${about} to learn from, ${formatCount(validation.length)} held out; the longest text has ${longest} tokens`,
        sequence: () => longest - 1,
        epochs: (settings) => examplesRead(settings) / training.length,
        // A session reads the beginning token together with the source.
        prompt: [...tokens.subarray(1, prefix)],
        source: { given: first.given, name: first.name },
        example: `--source ${kind === 'texts' ? '"..."' : JSON.stringify(first.name)}${ask}`,
      };
    },
  };
}

async function sourcedText(path: string, kind: Kind, { line, cells }: PairLine): Promise<SourcedText> {
  const wrong = (what: string): DataError => new DataError(`${path}, line ${line}${what}`);
  if (cells.length !== 2 && cells.length !== 3) {
    throw wrong(
      ` has ${cells.length === 1 ? 'no tab' : `${cells.length} columns`}: expected a source, a tab and a target, or a prompt between them`,
    );
  }
  const sides = cells.length === 2 ? ['source', 'target'] : ['source', 'prompt', 'target'];
  const empty = sides.find((_, i) => cells[i] === '');
  if (empty) throw wrong(`: the ${empty} is empty`);
  const [name, target] = [cells[0]!, cells.at(-1)!];
  const prompt = cells.length === 3 ? { prompt: cells[1]! } : {};
  if (kind === 'texts') return { name, given: name, ...prompt, target };
  try {
    return { name, given: await read(kind, besides(path, name)), ...prompt, target };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw wrong(`: ${error.message}`);
  }
}

async function read(kind: 'images' | 'sounds', path: string): Promise<Image | Sound> {
  if (kind === 'images') return readImage(path);
  const sound = await readSound(path);
  const flaw = flawOf(sound);
  if (flaw === 'silent') throw new DataError(`${path} is silent: there is nothing to hear`);
  if (flaw) say(`note        ${path} is clipped: its peaks were cut off when it was recorded`);
  return sound;
}

/** All sources in one form, and what a model of them has in its config. */
function together(
  path: string,
  kind: Kind,
  pairs: readonly SourcedText[],
  { imageSize: size, patch }: SourceOptions,
): { given: SourceGiven[]; about: string; config: (tokenizer: Tokenizer) => SourceConfig } {
  if (kind === 'texts') {
    const given = pairs.map(({ name }) => name);
    const length = (tokenizer: Tokenizer): number => {
      const longest = given.reduce((most, text) => Math.max(most, tokenizer.encode(text).length), 1);
      return longest + Math.max(SPARE.least, Math.ceil(longest * SPARE.share));
    };
    return { given, about: 'pairs', config: (tokenizer) => ({ kind, length: length(tokenizer) }) };
  }
  const odd = (i: number, has: string, first: string, remedy: string): DataError =>
    new DataError(`${path}: ${pairs[i]!.name} has ${has} and ${pairs[0]!.name} ${first}: ${remedy}`);
  if (kind === 'images') {
    const images = pairs.map(({ given }) => given as Image);
    const { height, width } = size ?? images[0]!;
    const other = size ? -1 : images.findIndex((image) => image.height !== height || image.width !== width);
    if (other >= 0) {
      const { height: h, width: w } = images[other]!;
      throw odd(
        other,
        `${w} x ${h} pixels`,
        `${width} x ${height}`,
        'have all stretched to one size with --image-size',
      );
    }
    const channels = images.some((image) => image.channels === 3) ? 3 : 1;
    return {
      given: images.map((image) => resized(withChannels(image, channels), height, width)),
      about: `texts about images of ${width} x ${height} pixels`,
      config: () => ({
        ...{ kind, height, width, channels },
        patch: patch ?? patchFor({ height, width }, 'vit'),
      }),
    };
  }
  const sounds = pairs.map(({ given }) => given as Sound);
  const { rate } = sounds[0]!;
  const other = sounds.findIndex((sound) => sound.rate !== rate);
  if (other >= 0)
    throw odd(other, `${sounds[other]!.rate} samples a second`, String(rate), 'convert all to one rate');
  const frames = soundFrames(rate);
  const longest = sounds.reduce((most, { samples }) => Math.max(most, samples.length), 1);
  return {
    given: sounds,
    about: `texts of sounds at ${rate} samples a second`,
    config: () => ({ ...frames, length: Math.ceil(longest / frames.hop) }),
  };
}
