/** Summaries: each part of a document by itself, and then the parts' summaries, until there is one. */
import { ArchiveError } from '../errors.js';
import type { Archive } from './archive.js';
import type { DocumentEntry } from './entries.js';
import type { ArchiveModel } from './model.js';

export type SummaryEvent =
  /** So many parts are summarised of so many, at this level: 1 is the document's text, 2 summaries of it, ... */
  | { readonly kind: 'progress'; readonly level: number; readonly done: number; readonly of: number }
  /** The summary itself, as it is written. */
  | { readonly kind: 'text'; readonly text: string };

export interface SummaryOptions {
  /** Tokens of a part, and of its summary. */
  readonly partTokens?: number;
  readonly maxTokens?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Throws `ArchiveError` for a model that follows no instructions, and for a document without text. */
export async function* summarize(
  archive: Archive,
  model: ArchiveModel,
  document: DocumentEntry,
  { partTokens, maxTokens = 400, signal }: SummaryOptions = {},
): AsyncGenerator<SummaryEvent, void> {
  if (!model.instructs) {
    throw new ArchiveError(
      `${model.name} has no chat template: it continues texts and follows no instructions, so that it cannot summarise. 'archive summary' shows the document's outline without a model`,
    );
  }
  const size = partTokens ?? Math.max(200, Math.min(4000, model.context - maxTokens - 200));
  let texts: string[] = [];
  for (let first = 1; first <= (document.pages ?? 0); first += 100) {
    for (const { page, text } of await archive.pages(document.content, first, first + 99)) {
      if (text !== '') texts.push(`[page ${page}]\n${text}`);
    }
  }
  if (texts.length === 0) throw new ArchiveError(`${document.name} has no text that was read`);
  for (let level = 1; ; level++) {
    const parts = inParts(model, texts, size);
    const last = parts.length === 1;
    const summaries: string[] = [];
    for (const [i, part] of parts.entries()) {
      yield { kind: 'progress', level, done: i, of: parts.length };
      const what =
        level === 1
          ? `a part of ${document.name}`
          : `summaries of the parts of ${document.name}, in their order`;
      const content = `${part}\n\nThis is ${what}. Summarise what it says in one paragraph, and name the pages of what matters, as in [page 12].`;
      let summary = '';
      for await (const text of model.answer({ messages: [{ role: 'user', content }], maxTokens, signal })) {
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

/** Texts that follow each other, as many in each part as fit; a longer one is cut. */
function inParts(model: ArchiveModel, texts: readonly string[], size: number): string[] {
  const parts: string[] = [];
  let part = '';
  let tokens = 0;
  const close = (): void => {
    if (part !== '') parts.push(part);
    part = '';
    tokens = 0;
  };
  for (const text of texts) {
    const count = model.tokens(text);
    const pieces = Math.ceil(count / size);
    const length = Math.ceil(text.length / pieces);
    for (let i = 0; i < pieces; i++) {
      const share = Math.ceil(count / pieces);
      if (tokens + share > size) close();
      part += `${text.slice(i * length, (i + 1) * length)}\n\n`;
      tokens += share;
    }
  }
  close();
  return parts;
}
