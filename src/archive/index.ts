/** A library of documents: read once, page by page, then searched and asked. */
export {
  ARCHIVE_FOLDER,
  ARCHIVE_OWNER,
  Archive,
  type ArchiveOptions,
  type DocumentEntry,
  type FileEntry,
  type PageRecord,
  type Reading,
  type Totals,
} from './archive.js';
export { type AskEvent, ask, type Citation, type Question, SOURCES, type Source } from './ask.js';
export { type Box, PAGE_STATES, type PageState } from './formats/page.js';
export { LocalModel } from './local-model.js';
export type { AnswerRequest, ArchiveModel } from './model.js';
export { type ModelReadingOptions, modelKey, pagesToRead, readWithModel } from './model-reading.js';
export { openRecognizer, type Recognizer } from './ocr.js';
export { PageReader } from './page-reader.js';
export { entryOf, isUnchanged, type ScanOutcome, scan } from './scan.js';
export { type Hit, type SearchOptions, type SearchResult, search } from './search.js';
export { type SummaryEvent, type SummaryOptions, summarize } from './summary.js';
export { type WorkedPage, type WorkOptions, work } from './work.js';
