/** A source, in the form in which a model reads it. */
import type { TensorData } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { flawOf, type Image, pixelValues, resized, type Sound, withChannels } from '../signals/index.js';
import type { Tokenizer } from '../text/index.js';
import type { Model } from './model.js';
import { type SourceConfig, sourcePositions } from './source.js';

/** A text, an image or a sound. */
export type SourceGiven = string | Image | Sound;

/** What the config of a model says of its source. Throws `ConfigError` for one that reads none. */
export function sourceConfigOf({ json }: Model): SourceConfig {
  const { source } = json as { source?: SourceConfig };
  if (!source)
    throw new ConfigError('this model reads no source: it goes on with a text, which is its prompt');
  return source;
}

/** Throws `ConfigError` for a model that reads a source, where nothing gives it one; `who` says what that is. */
export function expectNoSource({ source }: Model, who: string): void {
  if (!source) return;
  throw new ConfigError(
    `this model ${source.modality.about} before it writes, and ${who} reads texts alone: give it one with 'generate --source', or with session.readSource in the library`,
  );
}

/** A source as the model's inputs by name, each flat. Throws `DataError` for one that the model cannot read. */
export function sourceValues(
  config: SourceConfig,
  given: SourceGiven,
  tokenizer: Tokenizer,
): Readonly<Record<string, TensorData>> {
  switch (config.kind) {
    case 'texts':
      return { source: tokenValues(config.length, given, tokenizer) };
    case 'images':
      return { pixels: pixelsOf(config, given) };
    case 'sounds':
      return { samples: samplesOf(config, given) };
  }
}

/** What the places of a source are called, in their order, for a person: words, patches of an image, times of a sound. */
export function sourcePlaces(config: SourceConfig, given: SourceGiven, tokenizer: Tokenizer): string[] {
  switch (config.kind) {
    case 'texts':
      return tokenizer.encode(given as string).map((id) => tokenizer.decode([id]));
    case 'images': {
      const columns = Math.ceil(config.width / config.patch);
      const place = (i: number): string => `row ${Math.floor(i / columns) + 1}, column ${(i % columns) + 1}`;
      return Array.from({ length: sourcePositions(config) }, (_, i) => place(i));
    }
    case 'sounds':
      return Array.from(
        { length: config.length },
        (_, i) => `${((i * config.hop) / config.rate).toFixed(2)} s`,
      );
  }
}

function tokenValues(length: number, given: SourceGiven, tokenizer: Tokenizer): BigInt64Array {
  if (typeof given !== 'string') throw new DataError(`the model reads texts, and this is a ${nameOf(given)}`);
  const ids = tokenizer.encode(given);
  if (ids.length === 0) throw new DataError('the source is empty: give some text');
  if (ids.length > length)
    throw new DataError(
      `a source has ${ids.length} tokens, and the model reads ${length} at most: shorten it, or give it in parts`,
    );
  const { endOfText } = tokenizer;
  if (endOfText === undefined) throw new DataError('the tokenizer has no end-of-text token');
  const values = new BigInt64Array(length).fill(BigInt(endOfText));
  for (const [i, id] of ids.entries()) values[i] = BigInt(id);
  return values;
}

/** An image of another size is stretched. */
function pixelsOf(
  { height, width, channels }: Extract<SourceConfig, { kind: 'images' }>,
  given: SourceGiven,
): Float32Array {
  if (typeof given === 'string' || !('pixels' in given))
    throw new DataError(`the model reads images, and this is a ${nameOf(given)}`);
  return pixelValues(resized(withChannels(given, channels), height, width));
}

function samplesOf(
  { rate, hop, length }: Extract<SourceConfig, { kind: 'sounds' }>,
  given: SourceGiven,
): Float32Array {
  if (typeof given === 'string' || !('samples' in given))
    throw new DataError(`the model hears sounds, and this is a ${nameOf(given)}`);
  if (given.rate !== rate)
    throw new DataError(
      `the sound has ${given.rate} samples a second, and the model hears ${rate}: convert it`,
    );
  if (flawOf(given) === 'silent') throw new DataError('the sound is silent: there is nothing to hear');
  if (given.samples.length > length * hop) {
    const seconds = (samples: number): string => `${(samples / rate).toFixed(1)} s`;
    throw new DataError(
      `the sound has ${seconds(given.samples.length)}, and the model hears ${seconds(length * hop)} at most: cut it`,
    );
  }
  const samples = new Float32Array(length * hop);
  samples.set(given.samples);
  return samples;
}

function nameOf(given: SourceGiven): string {
  if (typeof given === 'string') return 'text: give what readImage or readSound makes of a file';
  return 'pixels' in given ? 'picture' : 'sound';
}
