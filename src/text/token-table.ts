/** Shared by the readers of vocabulary files: tokens by their bytes, entries of tokenizer.json, and errors for damaged lines. */
import { TokenizerError } from '../errors.js';
import { BYTE_SYMBOLS } from './byte-level.js';

/** The error for a damaged vocabulary file. */
export function damaged(where: string, problem: string): TokenizerError {
  return new TokenizerError(
    `${where} is damaged: ${problem}; fetch the file again from where the model came from`,
  );
}

/**
 * Ids by the tokens' bytes, spelled in GPT-2's symbols. Throws `TokenizerError` for a line that `parse` refuses, and for duplicate
 * tokens.
 */
export function tokensOf(
  text: string,
  path: string,
  parse: (line: string) => { readonly bytes: Uint8Array; readonly id: number } | string,
): Map<string, number> {
  const ids = new Map<string, number>();
  const seen = new Set<number>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === '') continue;
    const parsed = parse(line);
    const where = `line ${i + 1} of ${path}`;
    if (typeof parsed === 'string') throw damaged(where, parsed);
    const token = spelled(parsed.bytes);
    if (ids.has(token) || seen.has(parsed.id)) throw damaged(where, 'it repeats a token or an id');
    seen.add(parsed.id);
    ids.set(token, parsed.id);
  }
  if (ids.size === 0) throw damaged(path, 'it has no tokens');
  return ids;
}

/** The spelling of bytes in a tokenizer.json. */
export function spelled(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => BYTE_SYMBOLS[byte]!).join('');
}

/** An entry of `added_tokens`, its keys in the order in which Hugging Face's library writes them. */
export function addedToken(id: number, content: string, special: boolean): object {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}
