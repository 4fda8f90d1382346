/** Pre-tokenizers: the `pre_tokenizer` patterns of the models' own tokenizer.json, as JavaScript regular expressions. */

const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const END = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${END}`;
const QWEN2 = LLAMA3.replace('\\p{N}{1,3}', '\\p{N}');
const QWEN35 = QWEN2.replace('?\\p{L}+|', '?[\\p{L}\\p{M}]+|').replace(
  '[^\\s\\p{L}\\p{N}]',
  '[^\\s\\p{L}\\p{M}\\p{N}]',
);
const [UPPER, LOWER] = ['[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]', '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'];
const words = (upper: string, lower: string, ending: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${ending}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${ending}`;
const TEKKEN = `${words(UPPER, LOWER, '')}|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${END}`;
const GPT4O = `${words(UPPER, LOWER, `${CONTRACTIONS}?`)}|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${END}`;
const notHan = (letters: string): string => `(?:(?!\\p{Script=Han})${letters})`;
/** The pattern of Moonshot's Kimi models. */
export const KIMI = `\\p{Script=Han}+|${words(notHan(UPPER), notHan(LOWER), `${CONTRACTIONS}?`)}|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${END}`;
const BAILING = `'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`;

/** The patterns above, of which no match contains a visible character and the space after it: a space starts a match, or the match is white space only. */
export const WORD_PATTERNS = { LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O, KIMI, BAILING } as const;

const KNOWN: ReadonlySet<string> = new Set(Object.values(WORD_PATTERNS));
/** The contractions as most tokenizer.json files spell them. */
const ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

/** Whether a pattern is known to end words at spaces, as `WORD_PATTERNS` do. */
export function endsWordsAtSpaces(pattern: string): boolean {
  return KNOWN.has(pattern.replaceAll(ANY_CASE, CONTRACTIONS));
}

/** Bytes as GPT-2's symbols, cut by GPT-2's own pattern or not at all. */
export const byteLevel = (usesPattern: boolean): object => {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: usesPattern };
};
/** A pre-tokenizer that splits by a pattern. */
export const split = (pattern: string): object => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    byteLevel(false),
  ],
});
const digits = { type: 'Digits', individual_digits: true };
const singleDigits = { type: 'Sequence', pretokenizers: [digits, byteLevel(true)] };
const falcon = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Punctuation', behavior: 'Contiguous' },
    byteLevel(true),
    { type: 'Digits', individual_digits: false },
    { type: 'Split', pattern: { Regex: '[0-9][0-9][0-9]' }, behavior: 'Isolated', invert: false },
  ],
};

/** The pre-tokenization of one kind of tokenizer. */
export interface Cutting {
  readonly pre: object;
  readonly nfc?: boolean;
  /** Pieces that are tokens are not merged, and texts start with a token unless the file disables it. */
  readonly likeLlama3?: boolean;
}

const llama3: Cutting = { pre: split(LLAMA3), likeLlama3: true };
const gpt2: Cutting = { pre: byteLevel(true) };

/** By llama.cpp's names. */
export const CUTTINGS: Readonly<Record<string, Cutting>> = {
  default: gpt2,
  'gpt-2': gpt2,
  'granite-docling': gpt2,
  mpt: { ...gpt2, nfc: true },
  olmo: { ...gpt2, nfc: true },
  refact: { pre: singleDigits },
  smollm: { pre: singleDigits },
  starcoder: { pre: singleDigits },
  falcon: { pre: falcon },
  llama3,
  'llama-v3': llama3,
  'llama-bpe': llama3,
  falcon3: llama3,
  'falcon-h1': llama3,
  pixtral: llama3,
  lfm2: llama3,
  dbrx: { pre: split(LLAMA3) },
  'smaug-bpe': { pre: split(LLAMA3) },
  qwen2: { pre: split(QWEN2), nfc: true },
  'deepseek-r1-qwen': { pre: split(QWEN2), nfc: true },
  stablelm2: { pre: split(QWEN2) },
  qwen35: { pre: split(QWEN35), nfc: true },
  tekken: { pre: split(TEKKEN), likeLlama3: true },
  'gpt-4o': { pre: split(GPT4O) },
  llama4: { pre: split(GPT4O) },
  'kimi-k2': { pre: split(KIMI) },
  bailingmoe: { pre: split(BAILING) },
  bailingmoe2: { pre: split(BAILING) },
};
