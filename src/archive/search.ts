/**
 * Search: PostgreSQL finds passages that have the rarest of the words, and the best of these are ordered by BM25 over the places of the words
 * that the database keeps (Robertson and Zaragoza, 2009: k1 1.2, b 0.75), with words of headings and words that stand side by side counting
 * more. How rare a word is, the database's own statistics tell.
 */
import type { Archive } from './archive.js';
import type { Hit, SearchResult } from './entries.js';
import { clean } from './queue.js';
import { comparable } from './words.js';

/** How much is searched for, and where. */
export interface SearchOptions {
  /** How many passages. */
  readonly limit?: number;
  /** Only in these documents, by their contents. */
  readonly documents?: readonly string[] | undefined;
}

const K1 = 1.2;
const B = 0.75;
/** Passages that are compared exactly. */
const CANDIDATES = 80;
/** Words of a question that are looked for; the rarest of a longer one. */
const MOST_WORDS = 16;
/** Of these, the rarest find passages; the others only order them. */
const MOST_FOUND = 5;
/** What the rarest count when the passages are chosen that are compared. */
const RARER = 3;
/** The share of a word that the database does not count among the frequent ones. */
const RARE = 0.0005;
/** How often the frequent words are asked for, in milliseconds. */
const COUNTED_EVERY = 60_000;
/** Passages that the rarest words find by themselves, as far as their shares tell; commoner ones find passages that have another word too. */
const RANKED = 1000;
/** Words in a larger share of the passages find nothing by themselves, where a rarer one is asked too. */
const COMMON = 0.1;
/** Passages that are ranked at most where all words are common: of more every second, third and so on. */
const MOST_RANKED = 6000;
/** What a word in a heading counts, and words that stand side by side as they were asked. */
const HEADING = 2.2;
const TOGETHER = 0.6;
/** What a table of contents or an index counts: it has all words and says nothing. Lines of dots tell it. */
const LISTED = 0.4;

/** A word of a question. */
export interface Word {
  /** As the index writes it, and as it was asked. */
  readonly lexeme: string;
  readonly asked: string;
  readonly position: number;
  /** Share of the passages that have it. */
  readonly share: number;
  readonly weight: number;
}

/** Passages for words or a question, the best first. Throws `ArchiveError` when the archive cannot be used. */
export async function search(
  archive: Archive,
  question: string,
  { limit = 10, documents }: SearchOptions = {},
): Promise<SearchResult> {
  const counts = await countsOf(archive);
  const words = await wordsOf(archive, question, counts);
  if (words.length === 0) return { hits: [], missing: [] };
  const rarestOf = (some: readonly Word[]): Word[] =>
    [...some].sort((a, b) => b.weight - a.weight).slice(0, MOST_FOUND);
  const rare = words.filter(({ share }) => share <= COMMON);
  const found = async (finding: readonly Word[]): Promise<Candidate[]> => {
    const [few, all] = [fewFound(finding, words, counts.passages), any(finding)];
    const rows = await candidates(archive, few, finding, words, documents);
    return rows.length >= limit || few === all ? rows : candidates(archive, all, finding, words, documents);
  };
  let rows = rare.length > 0 ? await found(rarestOf(rare)) : [];
  // Where no passage has the rare ones, the common ones find what there is: in a small archive all words are common.
  if (rows.length === 0 && rare.length < words.length) {
    const common = rarestOf(words.filter((word) => !rare.includes(word)));
    // In some documents alone there may be few.
    const kept = new Map<string, Candidate>();
    for (const { text, every } of together(common, documents ? 0 : counts.passages)) {
      const ranked = (step: number) => candidates(archive, text, common, words, documents, step);
      let some = await ranked(every);
      // The words stand together in fewer passages than the share of each tells: all of them are ranked.
      if (some.length < CANDIDATES && every > 1) some = await ranked(1);
      // What has more of the words is kept: the next query may not rank it.
      for (const row of some) kept.set(row.passage, row);
      if (kept.size >= limit) break;
    }
    rows = [...kept.values()];
  }
  const missing = await missingOf(archive, words, rows);
  const average = rows.reduce((sum, { length }) => sum + length, 0) / Math.max(1, rows.length);
  const best = rows
    .map((row) => ({ passage: row.passage, ...scored(words, row, average) }))
    .sort((a, b) => b.score - a.score || Number(a.passage) - Number(b.passage))
    .slice(0, limit);
  const shown = await hitsOf(
    archive,
    best.map(({ passage }) => passage),
  );
  // One whose document is deleted in this moment is gone.
  const hits = best.flatMap((each) => {
    const row = shown.get(each.passage);
    return row ? [{ ...row, ...each }] : [];
  });
  return { hits, missing };
}

async function wordsOf(archive: Archive, question: string, { shares }: Counts): Promise<Word[]> {
  const { language } = archive.about;
  const rows = await archive.database.query<{ lexeme: string; asked: string; position: number }>(
    `SELECT l.lexeme, min(p.token) AS asked, min(p.position)::int AS position
     FROM ts_parse('default', $2) WITH ORDINALITY AS p(tokid, token, position)
     JOIN ts_token_type('default') t ON t.tokid = p.tokid
     CROSS JOIN LATERAL unnest(tsvector_to_array(to_tsvector($1::text::regconfig, p.token))) AS l(lexeme)
     WHERE t.alias <> 'blank' GROUP BY l.lexeme ORDER BY 3`,
    [language, comparable(clean(question).slice(0, 4000))],
  );
  return rows
    .map((row) => {
      const share = shares.get(row.lexeme) ?? RARE;
      return { ...row, share, weight: Math.log(1 + (1 - share + 0.0001) / (share + 0.0001)) };
    })
    .sort((a, b) => b.weight - a.weight)
    .slice(0, MOST_WORDS)
    .sort((a, b) => a.position - b.position);
}

/** What the database has last counted. */
interface Counts {
  readonly passages: number;
  /** The share of passages that has each of the most frequent words. */
  readonly shares: ReadonlyMap<string, number>;
}

const known = new WeakMap<Archive, { at: number; counts: Promise<Counts> }>();

/** The database is asked once a minute. */
function countsOf(archive: Archive): Promise<Counts> {
  const held = known.get(archive);
  if (held && performance.now() - held.at < COUNTED_EVERY) return held.counts;
  const counts = counted(archive);
  known.set(archive, { at: performance.now(), counts });
  counts.catch(() => known.delete(archive));
  return counts;
}

async function counted({ database }: Archive): Promise<Counts> {
  const shares = await database.query<{ lexeme: string; share: number }>(
    `SELECT unnest(most_common_elems::text::text[]) AS lexeme, unnest(most_common_elem_freqs)::float8 AS share
     FROM pg_stats WHERE tablename = 'archive_passages' AND attname = 'words' AND schemaname = ANY (current_schemas(false))`,
  );
  const [table] = await database.query<{ passages: number }>(
    `SELECT greatest(reltuples, 0)::float8 AS passages FROM pg_class WHERE oid = 'archive_passages'::regclass`,
  );
  return { passages: table!.passages, shares: new Map(shares.map(({ lexeme, share }) => [lexeme, share])) };
}

/** Where a word stands in a passage: how often, with more for headings, and its positions. */
interface Places {
  readonly count: number;
  readonly at: readonly number[];
}

interface Candidate {
  readonly passage: string;
  /** Of the words of the question that it has. */
  readonly places: ReadonlyMap<string, Places>;
  /** How many different words it has. */
  readonly length: number;
  readonly listing: boolean;
}

function any(some: readonly Word[]): string {
  return some.map(({ lexeme }) => quoted(lexeme)).join(' | ');
}

/** A query for passages that have one of the rarest of these words, or another of them and a second word: ranking takes time for each passage. */
export function fewFound(finding: readonly Word[], words: readonly Word[], passages: number): string {
  const alone: Word[] = [];
  let ranked = 0;
  for (const word of [...finding].sort((a, b) => a.share - b.share)) {
    ranked += word.share * passages;
    if (alone.length === 0 || ranked <= RANKED) alone.push(word);
  }
  const queries = finding.flatMap((word) => {
    if (alone.includes(word)) return [quoted(word.lexeme)];
    const others = words.filter((other) => other !== word && !alone.includes(other));
    return others.length > 0 ? [`(${quoted(word.lexeme)} & (${any(others)}))`] : [];
  });
  return queries.join(' | ');
}

/**
 * Queries for passages that have all of these words, the rarest of them, ever fewer, and in the end any of them. Common words have so many
 * passages that of those with one or two only `every` third, say, is ranked, as far as the shares tell.
 */
export function together(
  words: readonly Word[],
  passages: number,
): readonly { readonly text: string; readonly every: number }[] {
  const every = (share: number): number => Math.max(1, Math.ceil((share * passages) / MOST_RANKED));
  const all = words.flatMap((_, i) => {
    const some = words.slice(0, words.length - i);
    if (some.length === 1) return [];
    const share = Math.min(...some.map((word) => word.share));
    return [{ text: some.map(({ lexeme }) => quoted(lexeme)).join(' & '), every: every(share) }];
  });
  return [...all, { text: any(words), every: every(words.reduce((sum, { share }) => sum + share, 0)) }];
}

/**
 * The passages that a query finds and that have most of the words, in headings above all. Of the words those that are looked for count more.
 * Only each `every`-th passage is looked at.
 */
async function candidates(
  archive: Archive,
  query: string,
  finding: readonly Word[],
  words: readonly Word[],
  documents: readonly string[] | undefined,
  every = 1,
): Promise<Candidate[]> {
  const rows = await archive.database.query<{
    passage: string;
    places: string;
    length: number;
    listing: boolean;
  }>(
    `WITH best AS (
       SELECT id, ${RARER} * ts_rank(words, $1::text::tsquery) + ts_rank(words, $2::text::tsquery) AS rough FROM archive_passages
       WHERE words @@ $4::text::tsquery AND ($3::text[] IS NULL OR content = ANY($3::text[]))
         AND id % $5 = 0
       ORDER BY rough DESC, id LIMIT ${CANDIDATES}
     )
     SELECT id::text AS passage, words::text AS places, length(words) AS length, (text LIKE '%. . . . . .%. . . . . .%' OR text LIKE '%......%......%') AS listing FROM best JOIN archive_passages USING (id)`,
    [any(finding), any(words), documents ?? null, query, every],
  );
  return rows.map(({ places, ...row }) => ({ ...row, places: placesOf(places, words) }));
}

/** A passage as it is shown, however it was found. */
type Shown = Omit<Hit, 'score' | 'words'>;

const SHOWN = `SELECT p.id::text AS passage, p.content, d.name,
    (SELECT min(path) FROM archive_files f WHERE f.content = p.content) AS path,
    p.page, p.text, p.heading, p.boxes, g.width, g.height
  FROM archive_passages p JOIN archive_documents d ON d.content = p.content
  JOIN archive_pages g ON g.content = p.content AND g.page = p.page`;

/** Passages by their numbers. */
export async function hitsOf(archive: Archive, passages: readonly string[]): Promise<Map<string, Shown>> {
  if (passages.length === 0) return new Map();
  const rows = await archive.database.query<Shown>(`${SHOWN} WHERE p.id = ANY($1::bigint[])`, [passages]);
  return new Map(rows.map((row) => [row.passage, row]));
}

/** The passages of a document in their order, so many at most. */
export async function passagesOf(archive: Archive, content: string, limit: number): Promise<Hit[]> {
  const rows = await archive.database.query<Shown>(
    `${SHOWN} WHERE p.content = $1 ORDER BY p.page, p.part LIMIT ${limit}`,
    [content],
  );
  return rows.map((row) => ({ ...row, score: 0, words: [] }));
}

/** Of a tsvector as text, such as `'word':3A,17 'other':5`. */
function placesOf(vector: string, words: readonly Word[]): Map<string, Places> {
  const places = new Map<string, Places>();
  for (const { lexeme } of words) {
    const entry = `${quoted(lexeme)}:`;
    // A lexeme that ends as this one does would have a quote of its own before it.
    const from = vector.startsWith(entry) ? 0 : vector.indexOf(` ${entry}`) + 1;
    if (from === 0 && !vector.startsWith(entry)) continue;
    const end = vector.indexOf(' ', from + entry.length);
    const marks = vector.slice(from + entry.length, end === -1 ? undefined : end).split(',');
    const headings = marks.filter((mark) => mark.endsWith('A')).length;
    places.set(lexeme, {
      count: marks.length + (HEADING - 1) * headings,
      at: marks.map((mark) => Number.parseInt(mark, 10)),
    });
  }
  return places;
}

function scored(
  words: readonly Word[],
  { places, length, listing }: Candidate,
  average: number,
): { score: number; words: string[] } {
  const long = 1 - B + (B * length) / Math.max(1, average);
  let score = 0;
  for (const [i, { lexeme, weight, position }] of words.entries()) {
    const here = places.get(lexeme);
    if (!here) continue;
    score += (weight * here.count * (K1 + 1)) / (here.count + K1 * long);
    const next = words[i + 1];
    const beside = next && places.get(next.lexeme);
    if (!beside) continue;
    const step = next.position - position;
    const pair = here.at.some((at) => beside.at.some((other) => other > at && other - at <= step));
    if (pair) score += TOGETHER * Math.min(weight, next.weight);
  }
  return { score: listing ? score * LISTED : score, words: [...places.keys()] };
}

/** Words that no passage has. */
async function missingOf(
  archive: Archive,
  words: readonly Word[],
  rows: readonly Candidate[],
): Promise<string[]> {
  const seen = new Set(rows.flatMap(({ places }) => [...places.keys()]));
  const missing: string[] = [];
  for (const { lexeme, asked } of words) {
    if (seen.has(lexeme)) continue;
    const [there] = await archive.database.query(
      'SELECT 1 FROM archive_passages WHERE words @@ $1::text::tsquery LIMIT 1',
      [quoted(lexeme)],
    );
    if (!there) missing.push(asked);
  }
  return missing;
}

/** A lexeme as a text query has it. */
function quoted(lexeme: string): string {
  return `'${lexeme.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
