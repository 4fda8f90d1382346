/** What an archive tells of its documents. Types alone: a page in a browser takes them too. */
import type { Box, Kind, PageState } from './formats/page.js';

/** A file as it was when it was last looked at. */
export interface FileEntry {
  readonly path: string;
  /** Bytes, and milliseconds since 1970. */
  readonly size: number;
  readonly modified: number;
  readonly changed: number;
}

/** A document: a content, which one or more files have. */
export interface DocumentEntry {
  readonly content: string;
  readonly name: string;
  readonly format: Kind | null;
  readonly pages: number | null;
  readonly state: 'waiting' | 'reading' | 'read' | 'failed';
  readonly why: string | null;
  readonly paths: readonly string[];
  /** Of pages, by their state. */
  readonly counts: Readonly<Partial<Record<PageState, number>>>;
  /** Models that have read it, by their fingerprints. */
  readonly readings: readonly Reading[];
}

/** A model's reading of a document. `record` is the state after it, in the store of states; `page` and `tokens` say how far it is. */
export interface Reading {
  readonly model: string;
  readonly state: 'waiting' | 'reading' | 'read' | 'failed';
  readonly why: string | null;
  readonly tokens: number;
  readonly page: number;
  readonly record: string | null;
}

/** How much an archive has. */
export interface Totals {
  readonly files: number;
  readonly documents: Readonly<Record<DocumentEntry['state'], number>>;
  readonly pages: Readonly<Record<PageState, number>>;
  /** That are known of and not read yet; documents that were not opened count as one. */
  readonly left: number;
  readonly passages: number;
}

/** A page that was read. `width` and `height` in points, where it is drawn. */
export interface PageRecord {
  readonly page: number;
  readonly state: PageState;
  readonly why: string | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly text: string;
}

/** A passage that search has found. */
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

/** What search has found, the best first. */
export interface SearchResult {
  readonly hits: readonly Hit[];
  /** Words of the question that no passage has, as they were asked. */
  readonly missing: readonly string[];
}

/** What an answer says that a statement rests on. */
export interface Citation {
  /** As the answer writes it. */
  readonly mark: string;
  /** Of the document, by its content. */
  readonly content: string;
  readonly path: string;
  readonly page: number;
  /** The passage, where one was cited. */
  readonly hit?: Hit;
  /** Whether the words of the statement stand there. */
  readonly supported: boolean;
}

/** What comes of a question, in this order: what was found, notices, the answer's text as it is written, and what it cites. */
export type AskEvent =
  | {
      readonly kind: 'sources';
      readonly hits: readonly Hit[];
      /** How many of the hits the model is given. */
      readonly given: number;
      /** The document whose state it goes on from. */
      readonly state?: DocumentEntry;
      /** Documents all of whose passages it is given; these are the first of the hits. */
      readonly whole?: readonly DocumentEntry[];
      /** Words of the question that nothing in the archive has. */
      readonly missing: readonly string[];
    }
  | { readonly kind: 'notice'; readonly text: string }
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'end';
      readonly citations: readonly Citation[];
      /** Marks in the answer that stand for nothing it was given. */
      readonly unknown: readonly string[];
    };
