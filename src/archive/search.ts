/**
 * Search: PostgreSQL finds passages that have the rarest of the words, and the best of these are ordered by BM25 over the places of the words
 * that the database keeps (Robertson and Zaragoza, 2009: k1 1.2, b 0.75), with words of headings and words that stand side by side counting
 * more. How rare a word is, the database's own statistics tell.
 */
import type { Archive } from './archive.js';
import type { Box } from './formats/page.js';

export interface Hit {
  readonly passage: string;
  readonly content: string;
  /** The document's name and a path of it. */
  readonly name: string;
  readonly path: string | null;
  readonly page: number;
  readonly text: string;
  readonly heading: string;
  readonly boxes: readonly Box[];
  /** In points. */
  readonly width: number | null;
  readonly height: number | null;
  readonly score: number;
  /** Words of the question, as the index writes them, that the passage has. */
  readonly words: readonly string[];
}

export interface SearchResult {
  readonly hits: readonly Hit[];
  /** Words of the question that no passage has, as they were asked. */
  readonly missing: readonly string[];
}

export interface SearchOptions {
  /** How many passages. */
  readonly limit?: number;
  /** Only in these documents, by their contents. */
  readonly documents?: readonly string[] | undefined;
}

const K1 = 1.2;
const B = 0.75;
/** Passages that are compared exactly. */
const CANDIDATES = 120;
/** Words of a question that are looked for; the rarest of a longer one. */
const MOST_WORDS = 16;
/** Words in a larger share of the passages find nothing by themselves, where a rarer one is asked too. */
const COMMON = 0.1;
/** What a word in a heading counts, and words that stand side by side as they were asked. */
const HEADING = 2.2;
const TOGETHER = 0.6;
/** A table of contents or an index has all words and says nothing: lines of dots tell them. */
const LISTING = /((\. ?){6,}.*){3}/s;
const LISTED = 0.4;

interface Word {
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
  const words = await wordsOf(archive, question);
  if (words.length === 0) return { hits: [], missing: [] };
  const rare = words.filter(({ share }) => share <= COMMON);
  const finding = rare.length > 0 ? rare : words;
  const rows = await candidates(archive, finding, words, documents);
  const missing = await missingOf(archive, words, rows);
  const average = rows.reduce((sum, { places }) => sum + places.length, 0) / Math.max(1, rows.length);
  const hits = rows
    .map(({ row, places }) => {
      const { score, words: found } = scored(words, places, average);
      return { ...row, score: LISTING.test(row.text) ? score * LISTED : score, words: found };
    })
    .sort((a, b) => b.score - a.score || Number(a.passage) - Number(b.passage))
    .slice(0, limit);
  return { hits, missing };
}

async function wordsOf(archive: Archive, question: string): Promise<Word[]> {
  const { language } = archive.about;
  const rows = await archive.database.query<{
    lexeme: string;
    asked: string;
    position: number;
    share: number | null;
  }>(
    `WITH asked AS (
       SELECT row_number() OVER () AS position, p.token, l.lexeme
       FROM ts_parse('default', $2) p
       JOIN ts_token_type('default') t ON t.tokid = p.tokid
       CROSS JOIN LATERAL unnest(tsvector_to_array(to_tsvector($1::text::regconfig, p.token))) AS l(lexeme)
       WHERE t.alias <> 'blank'
     ), common AS (
       SELECT unnest(most_common_elems::text::text[]) AS lexeme, unnest(most_common_elem_freqs) AS share
       FROM pg_stats WHERE tablename = 'archive_passages' AND attname = 'words' AND schemaname = ANY (current_schemas(false))
     )
     SELECT a.lexeme, min(a.token) AS asked, min(a.position)::int AS position, max(c.share)::float8 AS share
     FROM asked a LEFT JOIN common c USING (lexeme) GROUP BY a.lexeme ORDER BY 3`,
    [language, question.slice(0, 4000)],
  );
  return rows
    .map(({ share, ...row }) => {
      // The statistics list what is frequent: what they do not know is rare.
      const known = share ?? 0.0005;
      return { ...row, share: known, weight: Math.log(1 + (1 - known + 0.0001) / (known + 0.0001)) };
    })
    .sort((a, b) => b.weight - a.weight)
    .slice(0, MOST_WORDS)
    .sort((a, b) => a.position - b.position);
}

/** Where words stand in a passage: [lexeme, position, whether in the heading]. */
type Place = readonly [lexeme: string, position: number, heading: boolean];
type Row = Omit<Hit, 'score' | 'words'>;

async function candidates(
  archive: Archive,
  finding: readonly Word[],
  words: readonly Word[],
  documents: readonly string[] | undefined,
): Promise<{ row: Row; places: Place[] }[]> {
  const any = finding.map(({ lexeme }) => quoted(lexeme)).join(' | ');
  const values: unknown[] = [any, documents ?? null];
  // The sum of the weights of the words that it has; headings decide between many alike.
  const rough = words
    .map(({ lexeme, weight }) => {
      values.push(quoted(lexeme), `${quoted(lexeme)}:A`);
      const at = values.length;
      return `CASE WHEN words @@ $${at}::text::tsquery THEN ${(HEADING * weight).toFixed(3)} WHEN words @@ $${at - 1}::text::tsquery THEN ${weight.toFixed(3)} ELSE 0 END`;
    })
    .join(' + ');
  const rows = await archive.database.query<Row & { places: string }>(
    `WITH best AS (
       SELECT id, ${rough} AS rough FROM archive_passages
       WHERE words @@ $1::text::tsquery AND ($2::text[] IS NULL OR content = ANY($2::text[]))
       ORDER BY rough DESC, length(text) LIMIT ${CANDIDATES}
     )
     SELECT p.id::text AS passage, p.content, d.name, (SELECT min(path) FROM archive_files f WHERE f.content = p.content) AS path,
       p.page, p.text, p.heading, p.boxes, g.width, g.height, p.words::text AS places
     FROM best JOIN archive_passages p USING (id) JOIN archive_documents d ON d.content = p.content
     JOIN archive_pages g ON g.content = p.content AND g.page = p.page`,
    values,
  );
  return rows.map(({ places, ...row }) => ({ row, places: placesOf(places) }));
}

/** Of a tsvector as text: `'word':3A,17 'other':5`. */
function placesOf(vector: string): Place[] {
  const places: Place[] = [];
  for (const [, lexeme, at] of vector.matchAll(/'((?:[^']|'')*)'(?::([\dA-D,]+))?/g)) {
    for (const each of (at ?? '').split(',')) {
      places.push([
        lexeme!.replaceAll("''", "'").replaceAll('\\\\', '\\'),
        Number.parseInt(each, 10),
        each.endsWith('A'),
      ]);
    }
  }
  return places;
}

function scored(
  words: readonly Word[],
  places: readonly Place[],
  average: number,
): { score: number; words: string[] } {
  const length = 1 - B + (B * places.length) / Math.max(1, average);
  const found = new Map<string, { count: number; at: number[] }>();
  for (const [lexeme, position, heading] of places) {
    const word = found.get(lexeme) ?? { count: 0, at: [] };
    word.count += heading ? HEADING : 1;
    word.at.push(position);
    found.set(lexeme, word);
  }
  let score = 0;
  for (const [i, { lexeme, weight, position }] of words.entries()) {
    const here = found.get(lexeme);
    if (!here) continue;
    score += (weight * here.count * (K1 + 1)) / (here.count + K1 * length);
    const next = words[i + 1];
    const beside = next && found.get(next.lexeme);
    if (!beside) continue;
    const step = next.position - position;
    const pair = here.at.some((at) => beside.at.some((other) => other > at && other - at <= step));
    if (pair) score += TOGETHER * Math.min(weight, next.weight);
  }
  return { score, words: words.map(({ lexeme }) => lexeme).filter((lexeme) => found.has(lexeme)) };
}

/** Words that no passage has. */
async function missingOf(
  archive: Archive,
  words: readonly Word[],
  rows: readonly { places: Place[] }[],
): Promise<string[]> {
  const seen = new Set(rows.flatMap(({ places }) => places.map(([lexeme]) => lexeme)));
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
