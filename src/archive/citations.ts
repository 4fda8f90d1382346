/**
 * What an answer cites: marks such as `[1]` and `[page 12]`, as models write them, and whether the words of the statement before a mark stand
 * in what it cites. Nothing of Node is in here: a page in a browser reads marks too.
 */
import type { Citation, DocumentEntry, Hit, PageRecord } from './entries.js';
import { stemsOf } from './words.js';

/** A passage or a page that an answer names. */
export interface Mark {
  /** As it is told: `[1]` or `[page 12]`. */
  readonly mark: string;
  /** `either`: a number behind a page's, as in `[page 12, 1]`, is a passage where there is such a one, and else another page. */
  readonly kind: 'passage' | 'page' | 'either';
  readonly number: number;
  /** The sentence before it. */
  readonly statement: string;
  /** Passages that the same brackets name. */
  readonly beside: readonly number[];
}

const BRACKETED = /[[【〔［]([^[\]【】〔〕［］\n]{1,100})[\]】〕］]/g;
const IN_PARENTHESES = /[(（]([^()（）\n]{1,60})[)）]/g;
/** Between two things that a mark names. */
const SEPARATOR = /\s*(?:[,;:、&]|\b(?:and|or|und|et|y)\b)\s*/i;
const PAGE = /^(?:(?:pages?|pg\.?|pp?\.?|seiten?|s\.|páginas?|pág\.?)(?!\p{L})|第|页|頁|ページ)\s*/iu;
const PASSAGE = /^(?:(?:passages?|sources?|excerpts?|ref(?:erences?|s)?\.?|no\.?|nr\.?)(?!\p{L})|#|\^)\s*/iu;
const PLURAL = /^(?:pp|pages|seiten|páginas)/i;
const NUMBERS = /^(\d{1,7})(?:\s*(?:-|–|—|~|to|bis)\s*(\d{1,7}))?\s*(页|頁|ページ)?$/i;
/** Of a longer range nobody means each. */
const LONGEST_RANGE = 50;

type Named = Pick<Mark, 'kind' | 'number'>;

/** What stands between brackets as what it names; undefined where it is no mark, as in `[a]` or `[3 apples]`. */
export function namedIn(inside: string): Named[] | undefined {
  const named: Named[] = [];
  /** What a number without a word before it is. */
  let bare: Mark['kind'] = 'passage';
  let labelled = false;
  let others = 0;
  // As OpenAI's models write it: 1†source.
  for (const part of inside.normalize('NFKC').replace(/†.*$/, '').trim().split(SEPARATOR)) {
    const page = PAGE.exec(part);
    const passage = PASSAGE.exec(part);
    const numbers = NUMBERS.exec(part.slice((page ?? passage)?.[0].length ?? 0));
    const [, from, to, pageBehind] = numbers ?? [];
    const [first, last] = [Number(from), Number(to ?? from)];
    if (!numbers || last < first || last - first > LONGEST_RANGE) {
      others++;
      continue;
    }
    const kind = page || pageBehind ? 'page' : passage ? 'passage' : bare;
    if (kind === 'page') bare = page && PLURAL.test(page[0]) ? 'page' : 'either';
    labelled ||= (page ?? passage ?? pageBehind) != null;
    for (let number = first; number <= last; number++) named.push({ kind, number });
  }
  // A name beside a page is that of its document; beside bare numbers it is something else that stands in brackets.
  return named.length > 0 && (others === 0 || labelled) ? named : undefined;
}

/** The marks of an answer, in its order. */
export function marksIn(answer: string): Mark[] {
  const found = [...answer.matchAll(BRACKETED), ...answer.matchAll(IN_PARENTHESES)].sort(
    (a, b) => a.index - b.index,
  );
  return found.flatMap(({ 0: text, 1: inside, index }) => {
    const named = namedIn(inside!);
    // What stands in parentheses is a mark where it says so.
    const isMark = named && (/^[(（]/.test(text) ? PAGE.test(inside!.trim()) : true);
    if (!isMark) return [];
    const statement = statementBefore(answer.slice(0, index));
    const beside = named.filter(({ kind }) => kind === 'passage').map(({ number }) => number);
    return named.map((each) => ({ ...each, mark: markOf(each), statement, beside }));
  });
}

function markOf({ kind, number }: Named): string {
  return kind === 'page' ? `[page ${number}]` : `[${number}]`;
}

/** The last sentence of a text, without the marks at its end. */
function statementBefore(text: string): string {
  const before = text.replace(/(\s*[[【〔［][^[\]【】〔〕［］]*[\]】〕］])+\s*$/, '').trimEnd();
  const sentences = before.split(/(?<=[.!?])\s+|(?<=[。！？])|\n+/);
  return sentences.filter((sentence) => sentence.trim() !== '').at(-1) ?? '';
}

/** What a mark may stand for. */
export interface Citable {
  /** The passages that the model was given, `[1]` first. */
  readonly given: readonly Hit[];
  /** The document whose state it goes on from. */
  readonly read?: DocumentEntry | undefined;
  /** A page of a document, by its content. */
  readonly page: (content: string, number: number) => Promise<PageRecord | undefined>;
}

/** What an answer cites, each once, and the marks that stand for nothing. */
export async function citationsOf(
  answer: string,
  citable: Citable,
): Promise<{ citations: Citation[]; unknown: string[] }> {
  const citations = new Map<string, Citation>();
  const unknown = new Set<string>();
  for (const each of marksIn(answer)) {
    const target = await targetOf(each, citable);
    if (target === 'known') continue;
    if (!target) {
      unknown.add(each.mark);
      continue;
    }
    const { text, ...about } = target;
    const supported = isSupported(each.statement, text) || citations.get(about.mark)?.supported === true;
    citations.set(about.mark, { ...about, supported });
  }
  return { citations: [...citations.values()], unknown: [...unknown] };
}

type Target = Omit<Citation, 'supported'> & { text: string };

/** What a mark stands for; `known` where it is the page of a passage that the same brackets name. */
async function targetOf(
  { kind, number, beside, statement }: Mark,
  { given, read, page }: Citable,
): Promise<Target | 'known' | undefined> {
  const hit = kind === 'page' ? undefined : given[number - 1];
  if (hit) return targetAt(hit, `[${number}]`);
  if (kind === 'passage') return undefined;
  const named = beside.flatMap((each) => given[each - 1] ?? []);
  if (named.some((each) => each.page === number)) return 'known';
  const mark = `[page ${number}]`;
  // Of the document that the passage beside it is of, of the one that was read, and of what was given.
  const documents = [
    ...named.map(({ content, path, name }) => ({ content, path: path ?? name })),
    ...(read ? [{ content: read.content, path: read.paths[0] ?? read.name }] : []),
  ];
  for (const document of documents) {
    const there = await page(document.content, number);
    if (there) return { ...document, mark, page: number, text: there.text };
  }
  // Several documents may have such a page: meant is the one that has most of the statement's words.
  const [onIt] = given
    .filter((each) => each.page === number)
    .sort((a, b) => shareOf(statement, b.text) - shareOf(statement, a.text));
  return onIt && targetAt(onIt, mark);
}

function targetAt(hit: Hit, mark: string): Target {
  const { content, path, name, page, text } = hit;
  return { mark, content, path: path ?? name, page, hit, text };
}

/** Whether a third of a statement's longer words stand in a text; endings may differ. */
function isSupported(statement: string, text: string): boolean {
  return shareOf(statement, text) >= 1 / 3;
}

/** The share of a statement's longer words that stand in a text: 1 where it has none. */
function shareOf(statement: string, text: string): number {
  const there = new Set(stemsOf(text));
  const asked = stemsOf(statement);
  return asked.length === 0 ? 1 : asked.filter((stem) => there.has(stem)).length / asked.length;
}
