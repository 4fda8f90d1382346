/**
 * Words as they are compared. PostgreSQL's text search would tell a ligature from its letters, and take a whole sentence of Chinese or Thai,
 * which put no spaces between words, for one word: the dictionaries of the Unicode library (`Intl.Segmenter`) tell where these end.
 */

/** Letters of such scripts, with the marks that stand among them. */
const LETTERS = ['Han', 'Hiragana', 'Katakana', 'Thai', 'Lao', 'Khmer', 'Myanmar']
  .map((script) => `\\p{scx=${script}}`)
  .join('');
const UNSPACED = new RegExp(`[${LETTERS}]{2,}`, 'gu');
/** Of these scripts two letters are a word, and endings are words of their own. */
const SHORT_WORDS = new RegExp(`[${LETTERS}\\p{scx=Hangul}]`, 'u');

/** Signs that NFKC writes as letters and digits of the word beside them: `word¹`, `Name™`, `2½`. Digits below the line are part of it: `H₂O`. */
const SIGNS = /(?![₀-₉])[\p{No}\p{So}]/gu;

let segmenter: Intl.Segmenter | undefined;

/**
 * The text as it is compared: ligatures, full-width letters and accents as they are typed (NFKC), and a space between two words of these
 * scripts in place of their punctuation. Signs such as `™` are words of their own.
 */
export function comparable(text: string): string {
  return text
    .replace(SIGNS, ' $& ')
    .normalize('NFKC')
    .replace(UNSPACED, (run) => {
      segmenter ??= new Intl.Segmenter('und', { granularity: 'word' });
      const words = [...segmenter.segment(run)].flatMap((each) => (each.isWordLike ? each.segment : []));
      return ` ${words.join(' ')} `;
    });
}

/** The beginnings of a text's longer words, by which two forms of a word are the same: endings differ. */
export function stemsOf(text: string): string[] {
  return (
    comparable(text)
      .toLowerCase()
      .match(/[\p{L}\p{M}\p{N}]+/gu)
      ?.flatMap((word) => {
        if (SHORT_WORDS.test(word))
          return word.length >= 2 ? word.slice(0, /\p{scx=Hangul}/u.test(word) ? 2 : undefined) : [];
        return word.length >= 4 ? word.slice(0, 5) : [];
      }) ?? []
  );
}
