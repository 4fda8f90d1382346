/**
 * Converts the tokenizer in a GGUF file's metadata to Hugging Face's files. llama.cpp names the pre-tokenizer
 * (`tokenizer.ggml.pre`).
 */
import { TokenizerError } from '../errors.js';
import type { Gguf, GgufMetadata } from '../gguf.js';
import { bpeTokenizer } from './bpe-json.js';
import { byteLevel, CUTTINGS, type Cutting } from './cuttings.js';
import { addedToken } from './token-table.js';
import type { TokenizerFiles } from './tokenizer-json.js';

/** Kinds of tokens, by llama.cpp's numbers. */
const [CONTROL, USER_DEFINED, UNUSED] = [3, 4, 5];

/** The files of a model's folder that the metadata of a GGUF file replaces. */
export const GGUF_COMPANIONS = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'] as const;

/**
 * The content of one of `GGUF_COMPANIONS`; undefined for other files. Throws `TokenizerError` for an unsupported kind of tokenizer.
 */
export function ggufCompanion(gguf: Gguf, name: string): object | undefined {
  const { metadata } = gguf;
  if (name === 'tokenizer.json') return tokenizerOf(gguf).tokenizer;
  if (name === 'tokenizer_config.json') return configOf(metadata);
  if (name !== 'generation_config.json') return undefined;
  const ends = ['eos', 'eot', 'eom'].map((kind) => metadata[`tokenizer.ggml.${kind}_token_id`]);
  return { eos_token_id: ends.filter((id) => typeof id === 'number') };
}

function tokenizerOf({ metadata, path }: Gguf): TokenizerFiles {
  const kind = metadata['tokenizer.ggml.model'];
  const tokens = metadata['tokenizer.ggml.tokens'];
  const refused = (what: string): TokenizerError =>
    new TokenizerError(`${path} has ${what}: take the model as safetensors with its tokenizer.json`);
  if (!isTexts(tokens)) throw refused('no tokens (tokenizer.ggml.tokens)');
  const types = (metadata['tokenizer.ggml.token_type'] as number[] | undefined) ?? [];
  const config = configOf(metadata);
  if (kind === 'gpt2') {
    const name = String(metadata['tokenizer.ggml.pre'] ?? 'default');
    const cutting = Object.hasOwn(CUTTINGS, name) ? CUTTINGS[name] : undefined;
    if (!cutting) {
      throw refused(
        `the tokenizer.ggml.pre ${JSON.stringify(name)}, which is not known (${Object.keys(CUTTINGS).join(', ')})`,
      );
    }
    const merges = metadata['tokenizer.ggml.merges'];
    if (!isTexts(merges)) throw refused('no merges (tokenizer.ggml.merges)');
    return { tokenizer: bytePairs(tokens, types, merges, cutting), config };
  }
  if (kind === 'llama') {
    const scores = metadata['tokenizer.ggml.scores'] as number[] | undefined;
    if (!scores) throw refused('no scores (tokenizer.ggml.scores)');
    const prefix = metadata['tokenizer.ggml.add_space_prefix'] !== false;
    return { tokenizer: sentencePieces(tokens, types, scores, prefix), config };
  }
  throw refused(
    `the tokenizer.ggml.model ${JSON.stringify(kind ?? 'missing')}, which is not read (gpt2 and llama are)`,
  );
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
}

const isAdded = (type: number | undefined): boolean => type === CONTROL || type === USER_DEFINED;

function addedTokens(tokens: readonly string[], types: readonly number[]): object[] {
  return tokens.flatMap((content, id) =>
    isAdded(types[id]) && content.length > 0 ? [addedToken(id, content, types[id] === CONTROL)] : [],
  );
}

function vocabularyOf(
  tokens: readonly string[],
  types: readonly number[],
  withAdded: boolean,
): Map<string, number> {
  const kept = tokens.map((token, id): [string, number] => [token, id]);
  return new Map(kept.filter(([, id]) => types[id] !== UNUSED && (withAdded || !isAdded(types[id]))));
}

function bytePairs(tokens: string[], types: number[], merges: string[], cutting: Cutting): object {
  return bpeTokenizer({
    addedTokens: addedTokens(tokens, types),
    normalizer: cutting.nfc ? { type: 'NFC' } : null,
    preTokenizer: cutting.pre,
    decoder: byteLevel(true),
    ignoreMerges: cutting.likeLlama3 ?? false,
    vocab: vocabularyOf(tokens, types, false),
    merges,
  });
}

/** The merges of SentencePiece's BPE, which are not stored: each token is merged from two others, in order of the scores. */
function sentencePieces(tokens: string[], types: number[], scores: number[], prefix: boolean): object {
  const vocabulary = vocabularyOf(tokens, types, true);
  const merges: { pair: readonly [string, string]; score: number }[] = [];
  for (const [token, id] of vocabulary) {
    const letters = [...token];
    if (isAdded(types[id]) || letters.length < 2) continue;
    const pairs = letters.slice(1).flatMap((_, i): [string, string][] => {
      const pair: [string, string] = [letters.slice(0, i + 1).join(''), letters.slice(i + 1).join('')];
      return pair.every((half) => vocabulary.has(half)) ? [pair] : [];
    });
    const place = (pair: readonly string[]): number[] => pair.map((half) => vocabulary.get(half)!);
    pairs.sort((a, b) => place(a)[0]! - place(b)[0]! || place(a)[1]! - place(b)[1]!);
    for (const pair of pairs) merges.push({ pair, score: scores[id] ?? 0 });
  }
  merges.sort((a, b) => b.score - a.score);
  const unknown = types.indexOf(2);
  return bpeTokenizer({
    addedTokens: addedTokens(tokens, types),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    preTokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    unknown: unknown < 0 ? null : tokens[unknown]!,
    byteFallback: true,
    vocab: vocabulary,
    merges: merges.map(({ pair }) => pair),
  });
}

function configOf(metadata: GgufMetadata): object {
  const tokens = metadata['tokenizer.ggml.tokens'];
  const named = (kind: string): object => {
    const id = metadata[`tokenizer.ggml.${kind}_token_id`];
    const token = isTexts(tokens) && typeof id === 'number' ? tokens[id] : undefined;
    return token ? { [`${kind}_token`]: token } : {};
  };
  const cutting = CUTTINGS[String(metadata['tokenizer.ggml.pre'])];
  const begins = metadata['tokenizer.ggml.model'] === 'llama' || (cutting?.likeLlama3 ?? false);
  const adds = metadata['tokenizer.ggml.add_bos_token'] ?? begins;
  const templates = Object.entries(metadata).flatMap(([key, template]) => {
    const name = /^tokenizer\.chat_template(?:\.(.+))?$/.exec(key);
    return name && typeof template === 'string' ? [{ name: name[1] ?? 'default', template }] : [];
  });
  return {
    ...named('bos'),
    ...named('eos'),
    add_bos_token: adds === true,
    ...(templates.length > 0 && { chat_template: templates }),
  };
}
