/**
 * Questions to an archive. What the answer rests on is found first, and shown whatever the model makes of it: passages by search, or the
 * state of a document that the model has read as a whole, or both. The answer cites them by their numbers or pages, and each citation is
 * compared with what it cites.
 */
import { ArchiveError } from '../errors.js';
import type { Archive } from './archive.js';
import type { AskEvent, Citation, DocumentEntry, Hit } from './entries.js';
import type { ArchiveModel } from './model.js';
import { search } from './search.js';
import { byMeaning } from './vectors.js';

/** What an answer rests on. */
export type Source = 'passages' | 'state' | 'both';
/** All sources of an answer, as `--from` names them. */
export const SOURCES: readonly Source[] = ['passages', 'state', 'both'];

/** A question about an archive, and how it is to be answered. */
export interface Question {
  readonly text: string;
  /** Only in these documents. */
  readonly documents?: readonly DocumentEntry[];
  readonly from?: Source;
  /** Passages that are looked at, at most. */
  readonly passages?: number;
  readonly maxTokens?: number;
  readonly signal?: AbortSignal | undefined;
}

const DEFAULT_PASSAGES = 8;
const DEFAULT_TOKENS = 512;
/** Of what was found, what is kept free for the question itself and the template. */
const AROUND = 200;

/** What is told of answering: in few words, since a model reads them anew for each question, and an answer begins that much later. */
function rulesFor(passages: boolean, document: string | undefined): string {
  const from = [passages && 'these passages', document].filter(
    (each) => each !== false && each !== undefined,
  );
  const marks = [passages && 'the passage, as in [1]', document !== undefined && 'the page, as in [page 12]'];
  const where = marks.filter((mark) => mark !== false).join(', or ');
  return `Answer from ${from.join(' and ')} alone, and behind each statement name ${where}. If it does not say, say so.`;
}

/** Finds what a question is about, and has the model answer. Throws `ArchiveError` for a state that there is not. */
export async function* ask(
  archive: Archive,
  model: ArchiveModel,
  question: Question,
): AsyncGenerator<AskEvent, void> {
  const {
    text,
    documents,
    from = 'passages',
    passages = DEFAULT_PASSAGES,
    maxTokens = DEFAULT_TOKENS,
    signal,
  } = question;
  const { hits: found, missing } =
    from === 'state'
      ? { hits: [], missing: [] }
      : await search(archive, text, {
          limit: 3 * passages,
          documents: documents?.map(({ content }) => content),
        });
  const hits = (await byMeaning(archive, model, text, found)).slice(0, passages);
  signal?.throwIfAborted();
  const state = from === 'passages' ? undefined : stateFor(model, documents, hits);
  const room =
    model.context - maxTokens - AROUND - model.tokens(`${rulesFor(true, state?.document.name)}${text}`);
  const given = fitting(model, hits, room);
  yield { kind: 'sources', hits, given: given.length, ...(state && { state: state.document }), missing };
  if (model.instructs && given.length < hits.length) {
    yield {
      kind: 'notice',
      text: `${model.name} has room for ${given.length} of these ${hits.length} passages, in ${model.context.toLocaleString('en')} tokens`,
    };
  }
  if (documents && state && documents.length > 1) {
    yield {
      kind: 'notice',
      text: `the state is that of ${state.document.name}; of the others passages alone are read`,
    };
  }
  if (!model.instructs) {
    yield {
      kind: 'notice',
      text: `${model.name} has no chat template: it continues texts and follows no instructions, so that what was found is shown and no answer is written`,
    };
    yield { kind: 'end', citations: [], unknown: [] };
    return;
  }
  if (given.length === 0 && !state) {
    yield { kind: 'notice', text: 'nothing was found that the question could be answered from' };
    yield { kind: 'end', citations: [], unknown: [] };
    return;
  }
  let answer = '';
  const content = promptOf(text, given, state?.document);
  for await (const piece of model.answer({
    messages: [{ role: 'user', content }],
    state: state?.record,
    maxTokens,
    signal,
  })) {
    answer += piece;
    yield { kind: 'text', text: piece };
  }
  yield { kind: 'end', ...(await citationsOf(archive, answer, given, state?.document)) };
}

/** The document whose state is gone on from: the one that was named, or else the one that most of what was found is in. */
function stateFor(
  model: ArchiveModel,
  documents: readonly DocumentEntry[] | undefined,
  hits: readonly Hit[],
): { document: DocumentEntry; record: string } | undefined {
  if (documents === undefined || documents.length === 0) {
    throw new ArchiveError(
      `say in which document, to go on from its state${hits[0] ? `, such as ${hits[0].path ?? hits[0].name}` : ''}`,
    );
  }
  for (const document of documents) {
    const reading = document.readings.find(({ model: key, state }) => key === model.key && state === 'read');
    if (reading?.record) return { document, record: reading.record };
  }
  throw new ArchiveError(
    `${model.name} has not read ${documents[0]!.name} yet: have it read with 'archive work --model'`,
  );
}

/** The first passages that fit. */
function fitting(model: ArchiveModel, hits: readonly Hit[], room: number): readonly Hit[] {
  let left = room;
  const given: Hit[] = [];
  for (const [i, hit] of hits.entries()) {
    left -= model.tokens(shown(i + 1, hit));
    if (left < 0) break;
    given.push(hit);
  }
  return given;
}

function shown(number: number, { name, page, heading, text }: Hit): string {
  const under = heading === '' || text.startsWith(heading) ? '' : `, ${heading.replaceAll('\n', ', ')}`;
  return `[${number}] ${name}, page ${page}${under}:\n${text}\n\n`;
}

/** What the model is told: of the document that it has read, the passages, the rules, and the question. */
export function promptOf(
  question: string,
  given: readonly Hit[],
  read: { name: string } | undefined,
): string {
  const passages = given.map((hit, i) => shown(i + 1, hit)).join('');
  return `${passages}${rulesFor(given.length > 0, read?.name)}\n\n${question}`;
}

/** What an answer cites, each once. */
async function citationsOf(
  archive: Archive,
  answer: string,
  given: readonly Hit[],
  read: DocumentEntry | undefined,
): Promise<{ citations: Citation[]; unknown: string[] }> {
  const citations = new Map<string, Citation>();
  const unknown = new Set<string>();
  for (const { mark, number, page, statement } of marksIn(answer)) {
    const before = citations.get(mark);
    const hit = number === undefined ? undefined : given[number - 1];
    if (hit) {
      const supported = isSupported(statement, hit.text) || before?.supported === true;
      citations.set(mark, {
        mark,
        content: hit.content,
        path: hit.path ?? hit.name,
        page: hit.page,
        hit,
        supported,
      });
      continue;
    }
    const [there] = page !== undefined && read ? await archive.pages(read.content, page, page) : [];
    if (there && read) {
      const supported = isSupported(statement, there.text) || before?.supported === true;
      citations.set(mark, {
        mark,
        content: read.content,
        path: read.paths[0] ?? read.name,
        page: there.page,
        supported,
      });
    } else unknown.add(mark);
  }
  return { citations: [...citations.values()], unknown: [...unknown] };
}

/** `[1]`, `[1, 3]`, `[page 12]`, `[p. 12]`, each with the sentence before it. */
export function marksIn(
  answer: string,
): { mark: string; number?: number; page?: number; statement: string }[] {
  const marks: { mark: string; number?: number; page?: number; statement: string }[] = [];
  for (const found of answer.matchAll(/\[\s*(?:(p(?:ages?|p?\.)?\s*)?(\d+(?:\s*[,;]\s*\d+)*))\s*\]/gi)) {
    const [, isPage, numbers] = found;
    const before = answer.slice(0, found.index).replace(/(\s*\[[^\]]*\])+\s*$/, '');
    const statement = /[^.!?\n]*[.!?]?\s*$/.exec(before)?.[0] ?? '';
    for (const digits of numbers!.split(/[,;]/)) {
      const value = Number(digits);
      if (isPage === undefined) marks.push({ mark: `[${value}]`, number: value, statement });
      else marks.push({ mark: `[page ${value}]`, page: value, statement });
    }
  }
  return marks;
}

/** Whether a third of a statement's longer words stand in a text; endings may differ. */
function isSupported(statement: string, text: string): boolean {
  const stems = (from: string): string[] =>
    (from.toLowerCase().match(/[\p{L}\p{N}]{4,}/gu) ?? []).map((word) => word.slice(0, 5));
  const there = new Set(stems(text));
  const asked = stems(statement);
  return asked.length === 0 || asked.filter((stem) => there.has(stem)).length >= asked.length / 3;
}
