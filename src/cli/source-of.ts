/** The source for a model that was trained on pairs. */
import { ConfigError } from '../errors.js';
import type { Model, SourceGiven } from '../models/index.js';
import { readImage, readSound } from '../signals/index.js';

interface SourceFlags {
  readonly source?: string;
  /** A saved state, which includes its source. */
  readonly state?: string;
}

/** The source. Throws `ConfigError` if the model needs a source and none is given, or the other way round. */
export async function sourceOf({ source }: Model, flags: SourceFlags): Promise<SourceGiven | undefined> {
  if (!source) {
    if (flags.source === undefined) return undefined;
    throw new ConfigError('this model reads no source: give what it goes on with as --prompt');
  }
  const { kind } = source.modality;
  if (flags.source !== undefined) {
    if (kind === 'texts') return flags.source;
    return kind === 'images' ? readImage(flags.source) : readSound(flags.source);
  }
  if (flags.state !== undefined) return undefined;
  throw new ConfigError(`this model ${source.modality.about} before it writes: give it one with --source`);
}
