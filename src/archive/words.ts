/**
 * Words of scripts that put no spaces between them. PostgreSQL's text search, and whoever compares words, would take a whole sentence of
 * Chinese or Thai for one word: the dictionaries of the Unicode library (`Intl.Segmenter`) tell where they end.
 */

/** Letters of such scripts, with the marks that stand among them. */
const LETTERS = ['Han', 'Hiragana', 'Katakana', 'Thai', 'Lao', 'Khmer', 'Myanmar']
  .map((script) => `\\p{scx=${script}}`)
  .join('');
const UNSPACED = new RegExp(`[${LETTERS}]{2,}`, 'gu');
/** Of these scripts two letters are a word, and endings are words of their own. */
const SHORT_WORDS = new RegExp(`[${LETTERS}\\p{scx=Hangul}]`, 'u');

let segmenter: Intl.Segmenter | undefined;

/** The text with a space between two such words, and its punctuation; all else is left as it is. */
export function spaced(text: string): string {
  return text.replace(UNSPACED, (run) => {
    segmenter ??= new Intl.Segmenter('und', { granularity: 'word' });
    const words = [...segmenter.segment(run)].flatMap((each) => (each.isWordLike ? each.segment : []));
    return ` ${words.join(' ')} `;
  });
}

/** The beginnings of a text's longer words, by which two forms of a word are the same: endings differ. */
export function stemsOf(text: string): string[] {
  return (
    spaced(text.normalize('NFKC').toLowerCase())
      .match(/[\p{L}\p{M}\p{N}]+/gu)
      ?.flatMap((word) => {
        if (SHORT_WORDS.test(word))
          return word.length >= 2 ? word.slice(0, /\p{scx=Hangul}/u.test(word) ? 2 : undefined) : [];
        return word.length >= 4 ? word.slice(0, 5) : [];
      }) ?? []
  );
}
