/** The archive that the server has: its documents, what is asked of it, and the page that is looked at. */
import { batch, signal } from '@preact/signals';
import type {
  AskEvent,
  Citation,
  DocumentEntry,
  Hit,
  PageRecord,
  Totals,
} from '../../../src/archive/entries.js';
import { eventsOf } from '../../../src/server/sse-client.js';
import { ApiError, getJson, json, receiving, send } from '../api.js';
import { poll } from '../parts/polling.js';

/** A question and what came of it. */
export interface Answer {
  readonly question: string;
  readonly hits: readonly Hit[];
  readonly missing: readonly string[];
  readonly notices: readonly string[];
  readonly text: string;
  readonly citations: readonly Citation[];
  readonly unknown: readonly string[];
  readonly busy: boolean;
}

/** The page that is looked at, with what is marked on it: places where the page is drawn, and else the passage's text. */
export interface Looking {
  readonly content: string;
  readonly page: number;
  readonly boxes: Hit['boxes'];
  readonly text?: string;
}

/** Documents that are shown at first, and that are shown more at a time; the server gives no more at once than this many. */
const SHOWN = 200;
const AT_ONCE = 1000;

/** `undefined` before it was asked for; `none` where no archive is served. */
export const totals = signal<Totals | 'none' | undefined>(undefined);
/** Pages that were read a second, while some are left. */
export const speed = signal<number | undefined>(undefined);
/** The first documents by name, as many as are shown. */
export const documents = signal<readonly DocumentEntry[]>([]);
/** Whether there are more documents than are shown. */
export const hasMore = signal(false);
let shown = SHOWN;
/** Documents that are looked at, whether they are among the first or not. */
const opened = signal<ReadonlyMap<string, DocumentEntry>>(new Map());
/** The answer to the last question, which grows while it streams; `undefined` before a question. */
export const answer = signal<Answer | undefined>(undefined);
/** The page that is shown. */
export const looking = signal<Looking | undefined>(undefined);
/** Only this document is asked. */
export const within = signal<string | undefined>(undefined);

let asking: AbortController | undefined;

/** Follows the archive until it is ended by what it returns. */
export function follow(onError: (error: unknown) => void): () => void {
  let last: { at: number; read: number } | undefined;
  return poll(async () => {
    const now = await getJson<Totals>('/v1/archive').catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 404) return 'none' as const;
      throw error;
    });
    if (now === 'none') {
      totals.value = now;
      return 'done';
    }
    const read = Object.values(now.pages).reduce((a, b) => a + b, 0);
    const at = performance.now();
    const changed = last === undefined || last.read !== read || now.left > 0;
    const found = changed ? await firstDocuments() : undefined;
    batch(() => {
      totals.value = now;
      if (found) show(found);
      speed.value = last && now.left > 0 ? ((read - last.read) / (at - last.at)) * 1000 : undefined;
    });
    last = { at, read };
    return undefined;
  }, onError);
}

interface DocumentList {
  readonly data: readonly DocumentEntry[];
  readonly has_more: boolean;
}

async function firstDocuments(): Promise<DocumentList> {
  const count = shown;
  const data: DocumentEntry[] = [];
  for (;;) {
    const limit = Math.min(AT_ONCE, count - data.length);
    const more = await getJson<DocumentList>(`/v1/archive/documents?limit=${limit}&skip=${data.length}`);
    data.push(...more.data);
    if (!more.has_more || data.length >= count) return { data, has_more: more.has_more };
  }
}

function show({ data, has_more }: DocumentList): void {
  documents.value = data;
  hasMore.value = has_more;
}

/** Shows more of the documents. */
export async function showMore(): Promise<void> {
  shown += SHOWN;
  const found = await firstDocuments();
  batch(() => show(found));
}

/** A document, where it is known yet: among those that are shown, or because it was looked at. */
export function known(content: string | undefined): DocumentEntry | undefined {
  if (content === undefined) return undefined;
  return documents.value.find((each) => each.content === content) ?? opened.value.get(content);
}

/** Gets a document that is not among those that are shown. */
export async function open(content: string): Promise<void> {
  if (known(content)) return;
  const found = await getJson<DocumentEntry>(`/v1/archive/documents/${content}`);
  opened.value = new Map([...opened.value, [content, found]]);
}

/** Removes a document from the library. */
export async function remove(content: string): Promise<void> {
  await send(`/v1/archive/documents/${content}`, { method: 'DELETE' });
  batch(() => {
    documents.value = documents.value.filter((each) => each.content !== content);
    opened.value = new Map([...opened.value].filter(([each]) => each !== content));
    if (looking.value?.content === content) looking.value = undefined;
    if (within.value === content) within.value = undefined;
  });
}

/** Asks, and shows what comes as it comes. Another question ends the one before. */
export async function askLibrary(question: string, from: string, model: string | undefined): Promise<void> {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  answer.value = {
    question,
    hits: [],
    missing: [],
    notices: [],
    text: '',
    citations: [],
    unknown: [],
    busy: true,
  };
  const change = (part: Partial<Answer>): void => {
    if (asking === mine && answer.value) answer.value = { ...answer.value, ...part };
  };
  const body = {
    question,
    from,
    ...(model !== undefined && { model }),
    ...(within.value !== undefined && { documents: [within.value] }),
  };
  try {
    const response = await send('/v1/archive/ask', { method: 'POST', ...json(body), signal: mine.signal });
    for await (const data of receiving(eventsOf(response))) {
      if (data === '[DONE]') break;
      const event = JSON.parse(data) as AskEvent | { kind: 'error'; error: { message: string } };
      if (event.kind === 'error') throw new ApiError(event.error.message, 500);
      if (event.kind === 'sources') {
        const { hits, missing } = event;
        change({ hits, missing });
        // Where the page stands below the answer, it is opened when it is asked for.
        if (hits[0] && !isNarrow()) look(hits[0]);
        // A passage that an answer before this one has opened does not belong to this one.
        else if (looking.value?.text !== undefined) looking.value = undefined;
      } else if (event.kind === 'notice') change({ notices: [...(answer.value?.notices ?? []), event.text] });
      else if (event.kind === 'text') change({ text: `${answer.value?.text ?? ''}${event.text}` });
      else change({ citations: event.citations, unknown: event.unknown });
    }
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error;
  } finally {
    change({ busy: false });
  }
}

/** Aborts the answer that streams, and keeps the part that has arrived. */
export function stopAsking(): void {
  asking?.abort();
}

/** Whether documents, answer and page stand below each other, as library.css has it. */
export function isNarrow(): boolean {
  return globalThis.matchMedia?.('(max-width: 1000px)').matches ?? false;
}

/** Shows a page, with boxes around what was cited. */
export function look({ content, page, boxes, text }: Looking): void {
  looking.value = { content, page, boxes, ...(text !== undefined && { text }) };
}

/** A page's picture. */
export async function pagePicture(
  content: string,
  page: number,
  scale: number,
  signal: AbortSignal,
): Promise<ImageBitmap> {
  const path = `/v1/archive/documents/${content}/pages/${page}/image?scale=${scale}`;
  const response = await send(path, { signal });
  return createImageBitmap(await response.blob());
}

/** A page's text, and how it was read. */
export async function pageText(content: string, page: number, signal: AbortSignal): Promise<PageRecord> {
  const response = await send(`/v1/archive/documents/${content}/pages/${page}`, { signal });
  return (await response.json()) as PageRecord;
}
