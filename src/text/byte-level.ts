/**
 * GPT-2's byte-level pre-tokenization: first pre-tokens (a word with its leading space, a number, a run of
 * punctuation, a run of white space), then the UTF-8 bytes of each, every byte written as one visible character.
 * Merges never cross a pre-token, and the 256 symbols can spell every text, so there are no unknown tokens.
 */

/** Follows `encoder.py` of GPT-2: contractions, letters, numbers, other signs, and white space (its last space goes to the next word). */
export const PRE_TOKEN = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/**
 * The symbol of each byte. Printable Latin-1 characters represent themselves; the other 68 bytes get the characters from U+0100
 * on, in order, since a vocabulary file with spaces and control characters would be unreadable.
 */
export const BYTE_SYMBOLS: readonly string[] = byteSymbols();

/** All 256 symbols by code point, the order in which GPT-2 and Hugging Face's trainer number them. */
export const ALPHABET: readonly string[] = [...BYTE_SYMBOLS].sort(
  (a, b) => a.charCodeAt(0) - b.charCodeAt(0),
);

const utf8 = new TextEncoder();

/** The symbols of `text`, one per UTF-8 byte; half a surrogate pair becomes U+FFFD. */
export function toByteSymbols(text: string): string[] {
  return Array.from(utf8.encode(text), (byte) => BYTE_SYMBOLS[byte]!);
}

function byteSymbols(): string[] {
  const symbols: string[] = [];
  let substitute = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    symbols.push(String.fromCharCode(printable ? byte : substitute++));
  }
  return symbols;
}
