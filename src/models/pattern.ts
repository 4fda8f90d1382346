/**
 * Layer patterns: a letter a layer, after Megatron's. `(M-M-M-M-S-)x2` repeats a part; `[M*]` has mixers side by side in one layer;
 * all parts `{*-}` of the same letters in braces share their weights, each with a state of its own; `<M>` mixes along the sequence in
 * both directions.
 */
import { expectText } from '../arguments.js';
import { ConfigError } from '../errors.js';

/** The letters of our own patterns. A digit cannot be one: it would be read as part of a number of repetitions. */
export const BLOCKS = {
  M: 'Mamba-2',
  '*': 'attention',
  W: 'sliding-window attention',
  S: 'selective attention',
  A: 'latent attention',
  Q: 'query-selecting attention',
  '-': 'MLP',
  E: 'mixture of experts',
  m: 'Mamba',
  N: 'Mamba-3',
  G: 'gated delta net',
  K: 'Kimi delta attention',
  g: 'gated delta net 2',
  D: 'delta product',
  L: 'lightning attention',
  V: 'RWKV-7',
  R: 'gated linear recurrent unit',
  I: 'time-invariant state space',
  C: 'short convolution',
} as const;

/** Letters of layers for what is whole before it is read: they look ahead, and have no state. */
export const WHOLE_BLOCKS = {
  v: 'MambaVision mixer',
  s: 'separable attention',
  c: 'convolutional block',
  '/': 'halving of an image',
} as const;

/** Letters of layers that attend to a source (source.ts). */
export const SOURCE_BLOCKS = { X: 'cross attention' } as const;

/** The names of all layers by letter; `[M*]` stands for mixers side by side, `<M>` for one in both directions. */
export const LAYER_NAMES = { ...BLOCKS, ...WHOLE_BLOCKS, ...SOURCE_BLOCKS };

/** A layer of a pattern by its letter (docs/designs.md lists them). */
export type BlockLetter = keyof typeof LAYER_NAMES;
/** A mixer along the sequence, in both directions. */
export type BothWaysLetter = `<${keyof typeof BLOCKS}>`;
/** A layer's letter, or a mixer in both directions: `<M>`. */
export type LayerLetter = BlockLetter | BothWaysLetter;

/** Layers that treat each token alone, so that they have no direction. */
const WITHOUT_DIRECTION: readonly BlockLetter[] = ['-', 'E'];

/** The letters of a layer: `[<M>*]` has `<M>` and `*`. */
export function lettersIn(layer: string): string[] {
  return layer.match(/<.>|[^[\]]/gu) ?? [];
}

/** The meaning of a letter, or the letter itself if it is unknown. */
export function letterName(letter: string): string {
  const names: Readonly<Record<string, string>> = LAYER_NAMES;
  const [inner] = /(?<=^<).(?=>$)/u.exec(letter) ?? [];
  return inner === undefined ? (names[letter] ?? letter) : `${names[inner] ?? inner} both ways`;
}

/** Whether a layer sees what comes after a position, so that it needs the whole before it can read. */
export function looksAhead({ letters }: PatternLayer): boolean {
  return letters.some((letter) => letter in WHOLE_BLOCKS || letter.startsWith('<'));
}

/** Far beyond any model; a slip in a number must not fill the memory. */
const MAX_LAYERS = 10_000;

/** A layer of a pattern: one letter, or several side by side. */
export interface PatternLayer {
  /** One, or those of mixers side by side. */
  readonly letters: readonly LayerLetter[];
  /** The earlier layer whose weights this one uses, too. */
  readonly shares?: number;
}

/** A layer as a pattern has it: `M`, or `[M*]`. */
export function layerLetters({ letters }: PatternLayer): string {
  return letters.length === 1 ? letters[0]! : `[${letters.join('')}]`;
}

/** The layers of a pattern, repetitions written out. Throws `ConfigError` for a letter that means nothing. */
export function parsePattern(pattern: string): PatternLayer[] {
  expectText(pattern, 'the pattern is');
  const parts = new Parser(pattern).parse();
  const first = new Map<string, number>();
  return parts.map(({ letters, shared }, index) => {
    if (shared === undefined) return { letters };
    const owner = first.get(shared) ?? index;
    first.set(shared, owner);
    return owner === index ? { letters } : { letters, shares: owner };
  });
}

interface Part {
  readonly letters: readonly LayerLetter[];
  /** The same for all layers that share their weights. */
  readonly shared?: string;
}

class Parser {
  private readonly tokens: string;
  private at = 0;

  constructor(private readonly pattern: string) {
    this.tokens = pattern.replace(/\s+/g, '');
    if (this.tokens.length > MAX_LAYERS)
      throw new ConfigError(`the pattern has more than ${MAX_LAYERS} characters`);
  }

  parse(): Part[] {
    const parts = this.sequence('');
    if (this.at < this.tokens.length) throw this.wrong(`has a '${this.tokens[this.at]}' too many`);
    if (parts.length === 0) throw new ConfigError('the pattern has no layers');
    return parts;
  }

  /** Parts up to a closing character; `within` are the brackets around them. */
  private sequence(within: string): Part[] {
    const parts: Part[] = [];
    while (this.at < this.tokens.length && !')}]'.includes(this.tokens[this.at]!)) {
      const character = this.tokens[this.at++]!;
      if (character === '(') parts.push(...this.repeated(parts.length, within));
      else if (character === '[') parts.push(this.sideBySide());
      else if (character === '{') parts.push(...this.sharing(within));
      else parts.push({ letters: [this.letter(character)] });
    }
    return parts;
  }

  private repeated(before: number, within: string): Part[] {
    const part = this.sequence(`${within}(`);
    const times = /^\)x(\d+)/.exec(this.tokens.slice(this.at));
    if (!times) throw this.wrong("has a '(' without ')x' and a number");
    this.at += times[0].length;
    const count = Number(times[1]);
    if (before + count * Math.max(part.length, 1) > MAX_LAYERS)
      throw this.wrong(`has more than ${MAX_LAYERS} layers`);
    return Array.from({ length: count }, () => part).flat();
  }

  private sideBySide(): Part {
    const letters: LayerLetter[] = [];
    while (this.at < this.tokens.length && this.tokens[this.at] !== ']') {
      letters.push(this.letter(this.tokens[this.at++]!));
    }
    this.close(']');
    if (letters.includes('/'))
      throw this.wrong("has a '/' side by side with others: it changes the size of an image");
    if (letters.length < 2) throw this.wrong("has a '[' with less than two mixers side by side");
    return { letters };
  }

  private sharing(within: string): Part[] {
    if (within.includes('{')) throw this.wrong("has a '{' inside of another");
    const start = this.at;
    const parts = this.sequence(`${within}{`);
    this.close('}');
    const name = this.tokens.slice(start, this.at - 1);
    if (parts.length === 0) throw this.wrong("has a '{' with nothing in it");
    return parts.map(({ letters }, i) => ({ letters, shared: `${name} ${i}` }));
  }

  private close(character: ']' | '}'): void {
    const opening = character === ']' ? '[' : '{';
    if (this.tokens[this.at++] !== character) throw this.wrong(`has a '${opening}' without '${character}'`);
  }

  private letter(character: string): LayerLetter {
    if (character === '<') return this.bothWays();
    if (Object.hasOwn(LAYER_NAMES, character)) return character as BlockLetter;
    const known = Object.entries(LAYER_NAMES).map(([letter, name]) => `${letter} (${name})`);
    throw this.wrong(`has the letter '${character}'; known are ${known.join(', ')}`);
  }

  private bothWays(): BothWaysLetter {
    const character = this.tokens[this.at++] ?? '';
    if (this.tokens[this.at++] !== '>') throw this.wrong("has a '<' without a letter and '>'");
    const letter = this.letter(character);
    if (
      letter in WHOLE_BLOCKS ||
      letter in SOURCE_BLOCKS ||
      WITHOUT_DIRECTION.includes(letter as BlockLetter)
    )
      throw this.wrong(`has '<${letter}>', and ${letterName(letter)} has no direction: leave '<>' out`);
    return `<${letter}>` as BothWaysLetter;
  }

  private wrong(what: string): ConfigError {
    return new ConfigError(`the pattern '${this.pattern}' ${what}`);
  }
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
  let layers = pattern.replace(/[\s{}]+/g, '');
  for (let found = innermost.exec(layers); found; found = innermost.exec(layers)) {
    layers = layers.replace(found[0], () => found![1]!.repeat(Number(found![2])));
  }
  const counts = new Map<string, number>();
  for (const [layer] of layers.matchAll(/\[[^\]]*\]|<.>|[^[\]]/gu)) {
    const letters = lettersIn(layer).join('');
    counts.set(letters, (counts.get(letters) ?? 0) + 1);
  }
  return [...counts].map(([letters, count]) => {
    return { letters, name: lettersIn(letters).map(letterName).join(' + '), count };
  });
}
