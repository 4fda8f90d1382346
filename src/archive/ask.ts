/**
 * Questions to an archive. What the answer rests on is found first, and shown whatever the model makes of it: passages that search finds, the
 * state of a document that the model has read as a whole, both, or whole documents. The answer cites them by their numbers or pages, and each
 * citation is compared with what it cites.
 */
import { ArchiveError } from '../errors.js';
import type { Archive } from './archive.js';
import { citationsOf } from './citations.js';
import type { AskEvent, DocumentEntry, Hit, Reading } from './entries.js';
import type { ArchiveModel } from './model.js';
import { passagesOf, search } from './search.js';
import { withMeaning } from './vectors.js';

/** What an answer rests on. */
export type Source = 'passages' | 'state' | 'both' | 'documents';
/** All sources of an answer, as `--from` names them. */
export const SOURCES: readonly Source[] = ['passages', 'state', 'both', 'documents'];

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
/** So many times as many passages are found as are looked at, before the two orders of them are joined. */
const WIDER = 3;
/** Passages of a document that is given whole, at most: of a longer one no context has room for all. */
const MOST_PASSAGES = 2000;
/** Tokens by which texts that are put together may be more than each by itself. */
const JOINT = 1;

/** What is told of answering: in few words, since a model reads them anew for each question, and an answer begins that much later. */
function rulesFor(passages: boolean, document: string | undefined): string {
  const from = [passages && 'these passages', document].filter(
    (each) => each !== false && each !== undefined,
  );
  const marks = [passages && 'the passage, as in [1]', document !== undefined && 'the page, as in [page 12]'];
  const where = marks.filter((mark) => mark !== false).join(', or ');
  return `Answer from ${from.join(' and ')} alone, and behind each statement name ${where}. If it does not say, say so.`;
}

/** What an answer may rest on, before it is known how much of it the model has room for. */
interface Found {
  readonly hits: readonly Hit[];
  readonly missing: readonly string[];
  readonly state?: ReadDocument | undefined;
  /** Of documents that are given whole where there is room: all their passages, in their order. */
  readonly documents: readonly { readonly document: DocumentEntry; readonly passages: readonly Hit[] }[];
}

interface ReadDocument {
  readonly document: DocumentEntry;
  readonly reading: Reading & { readonly record: string };
}

/** Finds what a question is about, and has the model answer. Throws `ArchiveError` for a state that there is not. */
export async function* ask(
  archive: Archive,
  model: ArchiveModel,
  question: Question,
): AsyncGenerator<AskEvent, void> {
  const { text, documents, from = 'passages', maxTokens = DEFAULT_TOKENS, signal } = question;
  const found = await find(archive, model, question);
  signal?.throwIfAborted();
  const { state, missing } = found;
  // A small context is not left to the answer alone.
  const written = Math.min(maxTokens, Math.floor(model.context / 2));
  const { hits, given, whole } = model.instructs
    ? await fitting(model, text, found, written)
    : { hits: found.hits, given: [], whole: [] };
  yield {
    kind: 'sources',
    hits,
    given: given.length,
    ...(state && { state: state.document }),
    ...(whole.length > 0 && { whole }),
    missing,
  };
  for (const notice of noticesOf(model, question, found, { hits, given, whole })) {
    yield { kind: 'notice', text: notice };
  }
  if (!model.instructs || (given.length === 0 && !state)) {
    yield { kind: 'end', citations: [], unknown: [] };
    return;
  }
  let answer = '';
  const content = promptOf(text, given, state?.document);
  for await (const piece of model.answer({
    messages: [{ role: 'user', content }],
    state: state?.reading.record,
    maxTokens: written,
    signal,
  })) {
    answer += piece;
    yield { kind: 'text', text: piece };
  }
  const page = async (of: string, number: number) => (await archive.pages(of, number, number))[0];
  // A page is one of the document that was named, where it is the only one.
  const named = from === 'documents' && documents?.length === 1 ? documents[0] : undefined;
  yield {
    kind: 'end',
    ...(await citationsOf(answer, { given, read: state?.document ?? named, page })),
  };
}

/** What a question may be answered from. Throws `ArchiveError` for a document or a state that must be named, or is not there. */
async function find(archive: Archive, model: ArchiveModel, question: Question): Promise<Found> {
  const { text, documents, from = 'passages', passages = DEFAULT_PASSAGES } = question;
  const isNamed = documents !== undefined && documents.length > 0;
  if (from === 'documents' && !isNamed)
    throw new ArchiveError('name the documents that are to be given whole');
  if (from === 'state') {
    if (!isNamed) throw new ArchiveError('say in which document, to go on from its state');
    return { hits: [], missing: [], documents: [], state: readOf(model, documents) };
  }
  const options = { limit: WIDER * passages, documents: documents?.map(({ content }) => content) };
  const { hits: byWords, missing } = await search(archive, text, options);
  const hits = (await withMeaning(archive, model, text, byWords, options)).slice(0, passages);
  if (from === 'documents') {
    const all = await Promise.all(
      documents!.map(async (document) => ({
        document,
        passages: await passagesOf(archive, document.content, MOST_PASSAGES + 1),
      })),
    );
    return { hits, missing, documents: all };
  }
  if (from === 'passages') return { hits, missing, documents: [] };
  return {
    hits,
    missing,
    documents: [],
    state: readOf(model, isNamed ? documents : await documentsOf(archive, hits)),
  };
}

/** The documents of what was found, those that most of it is in first. */
async function documentsOf(archive: Archive, hits: readonly Hit[]): Promise<DocumentEntry[]> {
  const counts = new Map<string, number>();
  for (const { content } of hits) counts.set(content, (counts.get(content) ?? 0) + 1);
  const contents = [...counts].sort(([, a], [, b]) => b - a).map(([content]) => content);
  return Promise.all(contents.map((content) => archive.document(content)));
}

/** The first of these documents that the model has read into a state. */
function readOf(model: ArchiveModel, documents: readonly DocumentEntry[]): ReadDocument {
  for (const document of documents) {
    const reading = document.readings.find(({ model: key, state }) => key === model.key && state === 'read');
    if (reading?.record) return { document, reading: { ...reading, record: reading.record } };
  }
  const [first] = documents;
  if (!first) {
    throw new ArchiveError('nothing was found: say in which document, to go on from its state');
  }
  throw new ArchiveError(
    `${model.name} has not read ${first.name} yet: have it read with 'archive work --model'`,
  );
}

/** What the model is given of what was found. */
interface Given {
  /** What is shown: the passages of whole documents, and those that were found. */
  readonly hits: readonly Hit[];
  readonly given: readonly Hit[];
  readonly whole: readonly DocumentEntry[];
}

/** As many whole documents, and then as many of the passages, as fit before an answer of so many tokens. */
async function fitting(
  model: ArchiveModel,
  question: string,
  { hits: found, documents, state }: Found,
  written: number,
): Promise<Given> {
  const message = (given: readonly Hit[]): string => promptOf(question, given, state?.document);
  const countOf = async (given: readonly Hit[]): Promise<number> =>
    (await model.count([[{ role: 'user', content: message(given) }]]))[0]!;
  const most = mostOf(model, state) - written;
  let left = most - (await countOf([]));
  let given: readonly Hit[] = [];
  const take = async (passages: readonly Hit[], all: boolean): Promise<readonly Hit[]> => {
    const counts = await model.count(passages.map((hit, i) => shown(given.length + i + 1, hit)));
    let used = 0;
    let fit = 0;
    for (const count of counts) {
      if (used + count + JOINT > left) break;
      used += count + JOINT;
      fit++;
    }
    if (all && fit < passages.length) return [];
    left -= used;
    return passages.slice(0, fit);
  };
  const whole: DocumentEntry[] = [];
  for (const { document, passages } of documents) {
    if (passages.length === 0 || passages.length > MOST_PASSAGES) continue;
    const all = await take(passages, true);
    if (all.length === 0) continue;
    given = [...given, ...all];
    whole.push(document);
  }
  const others = found.filter(({ content }) => !whole.some((document) => document.content === content));
  const hits = [...given, ...others];
  given = [...given, ...(await take(others, false))];
  // Put together they may be more than each by itself: nothing is given that does not fit for certain.
  while (given.length > 0 && (await countOf(given)) > most) given = given.slice(0, -1);
  return { hits, given, whole: whole.filter((document) => isWhole(document, documents, given)) };
}

function isWhole(document: DocumentEntry, documents: Found['documents'], given: readonly Hit[]): boolean {
  const all = documents.find((each) => each.document === document)!.passages.length;
  return given.filter(({ content }) => content === document.content).length === all;
}

/**
 * Tokens that a question and its answer may have: as many as the context, and behind a state what that leaves of the positions that the model
 * was made for. A document that took more than these is asked all the same.
 */
function mostOf(
  { context, positions = Number.POSITIVE_INFINITY }: ArchiveModel,
  state: Found['state'],
): number {
  const left = positions - (state?.reading.tokens ?? 0);
  return left > 0 ? Math.min(context, left) : context;
}

/** What is told of what the answer rests on. */
function* noticesOf(
  model: ArchiveModel,
  { documents, from }: Question,
  found: Found,
  { hits, given, whole }: Given,
): Generator<string> {
  const { name, context, positions } = model;
  if (!model.instructs) {
    yield `${name} has no chat template: it continues texts and follows no instructions, so that what was found is shown and no answer is written`;
    return;
  }
  const room = `in ${context.toLocaleString('en')} tokens`;
  if (from === 'documents') {
    const rest = documents!.filter((each) => !whole.includes(each)).map((each) => each.name);
    const read = whole.map((each) => each.name).join(', ');
    if (rest.length > 0) {
      yield `${name} has room for ${whole.length} of ${documents!.length} documents as a whole, ${room}${read === '' ? '' : `: ${read}`}; of ${rest.join(', ')} it is given passages alone`;
    } else yield `${name} is given all of ${read}`;
  }
  const { state } = found;
  if (hits.length === 0 && !state) yield 'nothing was found that the question could be answered from';
  else if (given.length === 0 && hits.length > 0) {
    yield `${name} has room for none of these ${hits.length} passages, ${room}${state ? '' : ': no answer is written'}`;
  } else if (given.length < hits.length) {
    yield `${name} has room for ${given.length} of these ${hits.length} passages, ${room}`;
  }
  if (!state) return;
  if (documents && documents.length > 1) {
    yield `the state is that of ${state.document.name}; of the others passages alone are read`;
  }
  if (positions !== undefined && state.reading.tokens >= positions) {
    yield `${state.document.name} has ${state.reading.tokens.toLocaleString('en')} tokens, and ${name} was made to attend to ${positions.toLocaleString('en')}: what it says of the document may be wrong`;
  }
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
