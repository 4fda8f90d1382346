/** The requests and answers of the archive's routes. */
import { z } from 'zod';
import { PAGE_STATES, SOURCES } from '../../archive/index.js';
import { ErrorBody } from './api-error.js';
import { requestOf } from './parameters.js';

const PageState = z.enum(PAGE_STATES);
const Box = z.tuple([z.number(), z.number(), z.number(), z.number()]);
const count = z.int().nonnegative();
const why = z.string().nullable();

/** A question to the archive. */
export const AskRequest = requestOf({
  question: z.string().min(1).max(8000),
  model: z.string().max(200).nullish(),
  /** Documents by the SHA-256 of their content, their paths, or ends of paths. */
  documents: z.array(z.string().min(1).max(4096)).max(100).nullish(),
  from: z.enum(SOURCES).nullish(),
  passages: z.int().min(1).max(50).nullish(),
  max_tokens: z.int().min(1).max(4096).nullish(),
});

/** How many files, documents, pages and passages there are, by their state. */
export const ArchiveTotals = z.object({
  object: z.literal('archive'),
  language: z.string(),
  files: count,
  documents: z.record(z.enum(['waiting', 'reading', 'read', 'failed']), count),
  pages: z.record(PageState, count),
  /** Pages that are known of and not read yet. */
  left: count,
  passages: count,
});

/** A document; files with the same content are one document. */
export const ArchiveDocument = z.object({
  /** SHA-256 of its bytes. */
  content: z.string(),
  name: z.string(),
  format: z.string().nullable(),
  pages: count.nullable(),
  state: z.enum(['waiting', 'reading', 'read', 'failed']),
  why,
  paths: z.array(z.string()),
  /** Pages by their state. */
  counts: z.partialRecord(PageState, count),
  /** Models that have read it into a state. */
  readings: z.array(
    z.object({
      model: z.string(),
      state: z.enum(['waiting', 'reading', 'read', 'failed']),
      why,
      tokens: count,
      page: count,
      record: z.string().nullable(),
    }),
  ),
});

/** A document that was removed. */
export const RemovedDocument = z.object({
  id: z.string(),
  object: z.literal('archive.document'),
  deleted: z.literal(true),
  /** Its files that stay, since they were not uploaded. */
  files: z.array(z.string()),
});

/** A page of the list of documents. */
export const ArchiveDocumentList = z.object({
  object: z.literal('list'),
  data: z.array(ArchiveDocument),
  has_more: z.boolean(),
});

/** Files and pages that were not read, with the reasons. */
export const ArchiveProblemList = z.object({
  object: z.literal('list'),
  data: z.array(z.object({ path: z.string(), page: count.nullable(), state: z.string(), why })),
});

/** A page of a document, with the text that was read. */
export const ArchivePage = z.object({
  page: z.int().positive(),
  state: PageState,
  why,
  /** In points. */
  width: z.number().nullable(),
  height: z.number().nullable(),
  text: z.string(),
});

const Hit = z.object({
  passage: z.string(),
  content: z.string(),
  name: z.string(),
  path: z.string().nullable(),
  page: z.int().positive(),
  text: z.string(),
  heading: z.string(),
  /** Left, top, right and bottom of each paragraph, in points. */
  boxes: z.array(Box),
  width: z.number().nullable(),
  height: z.number().nullable(),
  score: z.number(),
  words: z.array(z.string()),
});

/** What a search found, the best first. */
export const ArchiveHitList = z.object({
  object: z.literal('list'),
  data: z.array(Hit),
  /** Words that no passage has. */
  missing: z.array(z.string()),
});

/** An event of an answer's stream. */
export const AskEvent = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('sources'),
    hits: z.array(Hit),
    /** How many of the hits the model is given. */
    given: count,
    state: ArchiveDocument.optional(),
    /** Documents all of whose passages it is given; these are the first of the hits. */
    whole: z.array(ArchiveDocument).optional(),
    missing: z.array(z.string()),
  }),
  z.object({ kind: z.literal('notice'), text: z.string() }),
  z.object({ kind: z.literal('text'), text: z.string() }),
  z.object({
    kind: z.literal('end'),
    citations: z.array(
      z.object({
        mark: z.string(),
        content: z.string(),
        path: z.string(),
        page: z.int().positive(),
        hit: Hit.optional(),
        supported: z.boolean(),
      }),
    ),
    /** Citation marks in the answer that refer to none of the passages. */
    unknown: z.array(z.string()),
  }),
  /** The last one, in the place of `end`, where something went wrong. */
  ErrorBody.extend({ kind: z.literal('error') }),
]);
