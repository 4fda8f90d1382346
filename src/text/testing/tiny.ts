/** A text and a tokenizer of 300 tokens trained on it, for tests. */
import { trainBpe } from '../bpe.js';
import { Tokenizer } from '../tokenizer.js';
import { tokenizerFiles } from '../tokenizer-json.js';

/** A text that small models learn within a few steps. */
export const TINY_TEXT =
  'the cat sat on the mat, the dog sat on the log, and all that they said was that it was so. ' +
  'they sat and sat, as cats and dogs do, until the log was a mat and the mat was a log. ';

/** A byte-level BPE tokenizer of at most 300 tokens, trained on that text and on characters of several bytes. */
export const tinyTokenizer = new Tokenizer(
  tokenizerFiles(trainBpe([TINY_TEXT.repeat(3), 'ünïcödé 日本語 🙂🙃'], { vocabSize: 300, minFrequency: 1 })),
);
