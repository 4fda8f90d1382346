/** Summaries: each part of a document by itself, and then the parts' summaries, until there is one. */
import { ArchiveError } from '../errors.js';
import type { Archive } from './archive.js';
import type { DocumentEntry } from './entries.js';
import type { ArchiveModel } from './model.js';

/** What is reported while a summary is made. */
export type SummaryEvent =
  /** So many parts are summarised of so many, at this level: 1 is the document's text, 2 summaries of it, ... */
  | { readonly kind: 'progress'; readonly level: number; readonly done: number; readonly of: number }
  /** The summary itself, as it is written. */
  | { readonly kind: 'text'; readonly text: string };

/** The sizes of a summary. */
export interface SummaryOptions {
  /** Tokens of a part, and of its summary, at most: fewer where the model's context has no room for as many. */
  readonly partTokens?: number;
  readonly maxTokens?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Tokens of a part where nothing is said: of longer texts a summary leaves too much out. */
const USUAL_PART = 4000;
/** Fewer tokens say nothing that could be summarised. */
const LEAST_PART = 32;
/** Texts that are counted at once. */
const AT_ONCE = 100;

/** Throws `ArchiveError` for a model that follows no instructions or has no room for a text, and for a document without text. */
export async function* summarize(
  archive: Archive,
  model: ArchiveModel,
  document: DocumentEntry,
  { partTokens = USUAL_PART, maxTokens = 400, signal }: SummaryOptions = {},
): AsyncGenerator<SummaryEvent, void> {
  if (!model.instructs) {
    throw new ArchiveError(
      `${model.name} has no chat template: it continues texts and follows no instructions, so that it cannot summarise. 'archive summary' shows the document's outline without a model`,
    );
  }
  // A summary is shorter than what it is of.
  const written = Math.min(maxTokens, Math.floor(model.context / 4));
  const empty = [{ role: 'user', content: promptOf('', document, 2) }] as const;
  const room = model.context - written - (await model.count([empty]))[0]!;
  const size = Math.min(partTokens, room);
  if (size < LEAST_PART) {
    throw new ArchiveError(
      `the context of ${model.name} holds ${model.context} tokens, which has no room for a part of ${document.name} and its summary`,
    );
  }
  let texts: string[] = [];
  for (let first = 1; first <= (document.pages ?? 0); first += 100) {
    for (const { page, text } of await archive.pages(document.content, first, first + 99)) {
      if (text !== '') texts.push(`[page ${page}]\n${text}`);
    }
  }
  if (texts.length === 0) throw new ArchiveError(`${document.name} has no text that was read`);
  for (let level = 1; ; level++) {
    const parts = await inParts(model, texts, size);
    const last = parts.length === 1;
    const summaries: string[] = [];
    for (const [i, part] of parts.entries()) {
      yield { kind: 'progress', level, done: i, of: parts.length };
      const content = promptOf(part, document, level);
      let summary = '';
      for await (const text of model.answer({
        messages: [{ role: 'user', content }],
        maxTokens: written,
        signal,
      })) {
        summary += text;
        if (last) yield { kind: 'text', text };
      }
      summaries.push(summary.trim());
    }
    if (last) return;
    // A model that writes more than it reads would never end.
    const shorter = summaries.map((text) => text.slice(0, Math.ceil(size * 1.5)));
    texts =
      shorter.length < texts.length || level < 4
        ? shorter
        : shorter.slice(0, Math.max(1, shorter.length >> 1));
  }
}

function promptOf(part: string, { name }: DocumentEntry, level: number): string {
  const what = level === 1 ? `a part of ${name}` : `summaries of the parts of ${name}, in their order`;
  return `${part}\n\nThis is ${what}. Summarise what it says in one paragraph, and name the pages of what matters, as in [page 12].`;
}

/** Texts that follow each other, as many in each part as fit; a longer one is cut. */
async function inParts(model: ArchiveModel, texts: readonly string[], size: number): Promise<string[]> {
  const parts: string[] = [];
  let part = '';
  let tokens = 0;
  for (const { text, count } of await pieces(model, texts, size)) {
    if (part !== '' && tokens + count > size) {
      parts.push(part);
      part = '';
      tokens = 0;
    }
    part += text;
    tokens += count;
  }
  return [...parts, part];
}

/** Texts with a blank line behind them and their tokens; those that have more tokens than `size` in halves, until they have no more. */
async function pieces(
  model: ArchiveModel,
  texts: readonly string[],
  size: number,
): Promise<{ text: string; count: number }[]> {
  const found: { text: string; count: number }[] = [];
  for (let first = 0; first < texts.length; first += AT_ONCE) {
    const some = texts.slice(first, first + AT_ONCE).map((text) => `${text.trim()}\n\n`);
    for (const [i, count] of (await model.count(some)).entries()) {
      const text = some[i]!;
      if (count <= size || text.length < 2) found.push({ text, count });
      else found.push(...(await pieces(model, halves(text.trim()), size)));
    }
  }
  return found;
}

/** Two halves of a text, cut between two words where there are any, and never within a character. */
function halves(text: string): string[] {
  const middle = text.length >> 1;
  const space = text.indexOf(' ', middle);
  const end = space === -1 || space > 0.75 * text.length ? middle : space;
  const within = /[\udc00-\udfff]/.test(text[end] ?? '') ? 1 : 0;
  return [text.slice(0, end + within), text.slice(end + within)];
}
