/** Maps the name of a parameter to the pattern letters of its layer. */
import { ConfigError } from '../errors.js';
import type { Model } from './model.js';
import { lettersIn } from './pattern.js';

/** The prefix of an encoder's layers. */
export const ENCODER_LAYERS = 'encoder.layers';

type Layered = Pick<Model, 'layers' | 'names' | 'source'>;

/** All layers, with their prefixes. */
function layersOf({ layers, names, source }: Layered): [path: string, layers: Model['layers']][] {
  return [
    [`${names.layers}.`, layers],
    [`${ENCODER_LAYERS}.`, source?.layers ?? []],
  ];
}

/** The names of parallel mixers and their norms (hybrid.ts). */
const SIDE_BY_SIDE = /^mixer\.(?:mixers|norms)\.(\d+)\./;

/**
 * The letters of a parameter's layer; for parallel mixers preceded by those of its own mixer: a parameter of attention in `[M*]` has `*` and
 * `[M*]`. Empty for parameters outside of layers.
 */
export function lettersOf(model: Layered, name: string): string[] {
  for (const [path, layers] of layersOf(model)) {
    if (!name.startsWith(path)) continue;
    const [index] = name.slice(path.length).split('.', 1) as [string];
    const letters = layers[Number(index)]?.letters;
    if (letters === undefined) return [];
    const mixer = SIDE_BY_SIDE.exec(name.slice(path.length + index.length + 1))?.[1];
    return mixer !== undefined && letters.startsWith('[')
      ? [lettersIn(letters)[Number(mixer)]!, letters]
      : [letters];
  }
  return [];
}

/** All possible results of `lettersOf` for a model. */
export function lettersOfLayers(model: Layered): string[] {
  const each = layersOf(model).flatMap(([, layers]) => layers.map(({ letters }) => letters));
  return [
    ...new Set(
      each.flatMap((letters) => (letters.startsWith('[') ? [letters, ...lettersIn(letters)] : [letters])),
    ),
  ];
}

/** The setting of a parameter's layer, from settings by letter. For parallel mixers the mixer's own letter has precedence. */
export function ofLayer<T>(model: Layered, said: Readonly<Record<string, T>>, name: string): T | undefined {
  const letters = lettersOf(model, name).find((some) => Object.hasOwn(said, some));
  return letters === undefined ? undefined : said[letters];
}

/** Throws `ConfigError` if settings by letter name a layer that the model does not have. */
export function expectLayers(model: Layered, said: Readonly<Record<string, unknown>> = {}): void {
  const known = lettersOfLayers(model);
  const other = Object.keys(said).find((letters) => !known.includes(letters));
  if (other !== undefined)
    throw new ConfigError(`no layer of this model is '${other}'; it has ${known.join(', ')}`);
}
