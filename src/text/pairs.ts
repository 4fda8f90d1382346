/** Pairs of texts, one per line: the source, a tab, and the target. */
import { DataError } from '../errors.js';
import { readTextFile } from '../platform/text-file.js';
import type { ChatTemplate } from './chat-template.js';
import type { Tokenizer } from './tokenizer.js';

/** A source text and its target text. */
export interface TextPair {
  readonly source: string;
  readonly target: string;
}

/** The separator between source and target. */
export const PAIR_SEPARATOR = '\t';

/** The start of the chat templates of models of pairs, a Jinja comment. */
const OF_PAIRS = '{# heddle: pairs #}';

/**
 * The source of the chat template of a model that was trained on pairs: the last user message is the source. Earlier messages are
 * ignored, since the model was trained on single sources.
 */
export function pairTemplate(tokenizer: Tokenizer): string {
  return [
    OF_PAIRS,
    `{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}`,
    `{{ raise_exception('the model was trained on pairs of texts and writes one for another: it knows no messages of the role ' + message.role) }}`,
    `{% endif %}{% endfor %}`,
    `{% set asked = messages | selectattr('role', 'equalto', 'user') | list | last %}`,
    `${tokenizer.decode(tokenizer.beginning)}{{ asked.content | trim }}${PAIR_SEPARATOR}`,
    `{% if messages[-1].role == 'assistant' %}{{ messages[-1].content }}{% endif %}`,
  ].join('');
}

/** Whether a template is that of `pairTemplate`. */
export function isPairTemplate(template: ChatTemplate): boolean {
  return template.mentions(OF_PAIRS);
}

/** A text as the source of a pair, if the template is that of `pairTemplate`: the separator is added if the text has none. */
export function asPairSource(template: ChatTemplate | undefined, text: string): string {
  const isComplete = text === '' || text.includes(PAIR_SEPARATOR);
  return isComplete || !template || !isPairTemplate(template) ? text : `${text.trim()}${PAIR_SEPARATOR}`;
}

/** A line of a file of pairs: its number, and its columns. */
export interface PairLine {
  readonly line: number;
  readonly cells: readonly string[];
}

/**
 * Reads the lines of a TSV file without a header; blank lines are ignored. Throws `DataError`, with the file and the line, for a
 * file that is missing or not UTF-8, and for a line of only tabs.
 */
export async function readPairLines(path: string): Promise<PairLine[]> {
  const text = await readTextFile(path, 'pairs');
  return text.split(/\r\n|\n|\r/).flatMap((line, i): PairLine[] => {
    if (line.trim() !== '') return [{ line: i + 1, cells: line.split('\t').map((cell) => cell.trim()) }];
    if (line.includes('\t')) throw new DataError(`${path}, line ${i + 1}: both sides of the pair are empty`);
    return [];
  });
}

/** Throws `DataError` if there are too few pairs for training and validation. */
export function expectSeveralPairs(path: string, pairs: readonly unknown[]): void {
  if (pairs.length >= 2) return;
  throw new DataError(
    `${path} has ${pairs.length === 1 ? '1 pair' : `${pairs.length} pairs`}: expected two at least, to learn from and to hold out`,
  );
}

/**
 * Reads a TSV file of two columns. Throws `DataError`, with the file and the line, for a file that cannot be read or is empty, for a line
 * that is not a pair, and for a pair with an empty side.
 */
export async function readPairs(path: string): Promise<TextPair[]> {
  const pairs = (await readPairLines(path)).map(({ line, cells }): TextPair => {
    if (cells.length !== 2) {
      throw new DataError(
        `${path}, line ${line} has ${cells.length === 1 ? 'no tab' : `${cells.length} columns`}: expected a source, a tab and a target (of a table of numbers, name the columns to forecast with --target)`,
      );
    }
    const [source, target] = cells as [string, string];
    if (source === '' || target === '')
      throw new DataError(`${path}, line ${line}: the ${source === '' ? 'source' : 'target'} is empty`);
    return { source, target };
  });
  expectSeveralPairs(path, pairs);
  return pairs;
}
