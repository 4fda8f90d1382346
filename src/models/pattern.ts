/**
 * Layer patterns: a letter a block, after Megatron's. A part in parentheses may repeat: `(M-M-M-M-S-)x2` has Mamba-2,
 * selective attention, and an MLP after each.
 */
import { ConfigError } from '../errors.js';

/** The letters of our own patterns. A digit cannot be one: it would be read as part of a number of repetitions. */
export const BLOCKS = {
  M: 'Mamba-2',
  '*': 'attention',
  W: 'sliding-window attention',
  S: 'selective attention',
  A: 'latent attention',
  '-': 'MLP',
  m: 'Mamba',
  N: 'Mamba-3',
  G: 'gated delta net',
  K: 'Kimi delta attention',
  L: 'lightning attention',
  R: 'gated linear recurrent unit',
  I: 'time-invariant state space',
  C: 'short convolution',
} as const;

/** What the letters of all families' layers mean; `[M*]` stands for mixers side by side. */
export const LAYER_NAMES = {
  ...BLOCKS,
  E: 'mixture of experts',
} as const;

export type BlockLetter = keyof typeof BLOCKS;

/** Far beyond any model; a slip in a number must not fill the memory. */
const MAX_LAYERS = 10_000;

/** The letters of a pattern, repetitions written out. Throws `ConfigError` for a letter that means nothing. */
export function parsePattern(pattern: string): BlockLetter[] {
  const tokens = pattern.replace(/\s+/g, '');
  if (tokens.length > MAX_LAYERS) throw new ConfigError(`the pattern has more than ${MAX_LAYERS} characters`);
  let at = 0;
  const sequence = (depth: number): BlockLetter[] => {
    const letters: BlockLetter[] = [];
    while (at < tokens.length && tokens[at] !== ')') {
      const character = tokens[at++]!;
      if (character === '(') {
        const part = sequence(depth + 1);
        const times = /^\)x(\d+)/.exec(tokens.slice(at));
        if (!times) throw new ConfigError(`the pattern '${pattern}' has a '(' without ')x' and a number`);
        at += times[0].length;
        const count = Number(times[1]);
        if (letters.length + count * Math.max(part.length, 1) > MAX_LAYERS)
          throw new ConfigError(`the pattern '${pattern}' has more than ${MAX_LAYERS} layers`);
        for (let i = 0; i < count; i++) letters.push(...part);
      } else if (character in BLOCKS) {
        letters.push(character as BlockLetter);
      } else {
        const known = Object.entries(BLOCKS).map(([letter, name]) => `${letter} (${name})`);
        throw new ConfigError(
          `the pattern '${pattern}' has the letter '${character}'; known are ${known.join(', ')}`,
        );
      }
    }
    if (depth === 0 && at < tokens.length)
      throw new ConfigError(`the pattern '${pattern}' has a ')' too many`);
    return letters;
  };
  const letters = sequence(0);
  if (letters.length === 0) throw new ConfigError('the pattern has no layers');
  return letters;
}

/** Layers as a pattern; where all of them repeat, `(...)xN`. */
export function foldPattern(layers: readonly string[]): string {
  const count = layers.length;
  const period =
    Array.from({ length: count }, (_, i) => i + 1).find(
      (size) => count % size === 0 && layers.every((layer, i) => layer === layers[i % size]),
    ) ?? count;
  const unit = layers.slice(0, period).join('');
  return period === count ? unit : `(${unit})x${count / period}`;
}

/** A kind of layer, by its letters in a pattern and by its name, and how many there are. */
export interface LayerCount {
  /** Without brackets: `M*` for Mamba-2 and attention side by side. */
  readonly letters: string;
  readonly name: string;
  readonly count: number;
}

/**
 * The kinds of layers in a pattern, in the order in which they first occur: `(M-M-M-M-S-)x2` has 8 Mamba-2, 10 MLP and 2 selective
 * attention. Takes the patterns of all families.
 */
export function countLayers(pattern: string): LayerCount[] {
  const innermost = /\(([^()]*)\)x(\d+)/;
  let layers = pattern.replace(/\s+/g, '');
  for (let found = innermost.exec(layers); found; found = innermost.exec(layers)) {
    layers = layers.replace(found[0], () => found![1]!.repeat(Number(found![2])));
  }
  const counts = new Map<string, number>();
  for (const [layer] of layers.matchAll(/\[[^\]]*\]|[^[\]]/gu)) {
    const letters = layer.replace(/[[\]]/g, '');
    counts.set(letters, (counts.get(letters) ?? 0) + 1);
  }
  const names: Readonly<Record<string, string>> = LAYER_NAMES;
  return [...counts].map(([letters, count]) => {
    const name = [...letters].map((letter) => names[letter] ?? letter).join(' + ');
    return { letters, name, count };
  });
}
