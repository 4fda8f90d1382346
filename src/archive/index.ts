/** A library of documents: read once, page by page, then searched and asked. */
export { ARCHIVE_OWNER, Archive, type ArchiveOptions } from './archive.js';
export { ask, type Question, SOURCES, type Source } from './ask.js';
export type {
  AskEvent,
  Citation,
  DocumentEntry,
  FileEntry,
  Hit,
  PageRecord,
  Reading,
  SearchResult,
  Totals,
} from './entries.js';
export { type Box, PAGE_STATES, type PageState, UnreadableError } from './formats/page.js';
export { LocalModel } from './local-model.js';
export type { AnswerRequest, ArchiveModel } from './model.js';
export { type ModelReadingOptions, modelKey, pagesToRead, readWithModel } from './model-reading.js';
export { openRecognizer, type Recognition, Recognizer } from './ocr.js';
export { PageReader } from './page-reader.js';
export { ARCHIVE_FOLDER } from './places.js';
export { removeDocuments } from './remove.js';
export { entryOf, isUnchanged, type ScanOutcome, scan } from './scan.js';
export { type SearchOptions, search } from './search.js';
export { type SummaryEvent, type SummaryOptions, summarize } from './summary.js';
export { type AddedDocument, addDocument } from './upload.js';
export { type WorkedPage, type WorkOptions, work } from './work.js';
