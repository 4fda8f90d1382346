/**
 * Reads documents in a process of its own, which is killed when a page takes too long or too much memory. The page is then one that
 * failed, and a new process goes on with the next one.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { ArchiveUnavailableError } from '../errors.js';
import { type Kind, type Page, UnreadableError } from './formats/page.js';
import { PDFIUM, packageFolder } from './packages.js';

/** What the process that reads files is told. */
export type ToReader =
  | { readonly kind: 'start'; readonly memory: number }
  | { readonly kind: 'open'; readonly path: string; readonly format: Kind; readonly pdfium?: string }
  | { readonly kind: 'read'; readonly first: number; readonly last: number }
  | { readonly kind: 'draw'; readonly number: number; readonly scale: number };

/** What the process that reads files answers. */
export type FromReader =
  | { readonly kind: 'opened'; readonly pages: number }
  | { readonly kind: 'page'; readonly number: number; readonly page: Page }
  | { readonly kind: 'drawn'; readonly png: Uint8Array }
  /** `scarce`: the machine has run out of something, so that it says nothing about the document. */
  | { readonly kind: 'failed'; readonly scarce: boolean; readonly why: string };

/** Limits of the process that reads pages. */
export interface PageReaderOptions {
  /** How long a page may take, or opening a document, in seconds. */
  readonly seconds: number;
  /** Bytes that the process may take. */
  readonly memory: number;
  /** The process does not keep this one from ending. */
  readonly background?: boolean;
  /** Where the process's program is; by default beside this file. */
  readonly program?: URL;
}

/** 30 seconds for a page, and 1.5 GB. */
export const READER_DEFAULTS: PageReaderOptions = { seconds: 30, memory: 1.5e9 };

/** The process ended, or was ended. */
class ReaderGone extends Error {}

/** Why a process is gone that said nothing of it. */
const TOO_MUCH = 'it took more memory than a page may';

/** One process, and one document at a time. */
export class PageReader {
  private child: ChildProcess | undefined;
  /** What the process has open. */
  private opened: { path: string; version: string; pages: number } | undefined;
  private readonly options: PageReaderOptions;
  private readonly arrived: FromReader[] = [];
  /** Why the process has ended, where it has. */
  private gone: Error | undefined;
  private wake = (): void => {};

  constructor(options: Partial<PageReaderOptions> = {}) {
    this.options = { ...READER_DEFAULTS, ...options };
  }

  /**
   * Opens a document and returns the number of its pages. `version` is anything that changes with the file. Throws `UnreadableError` with
   * the reason where it cannot be read; `ArchiveUnavailableError` where the machine has no room for the process or the file.
   */
  async open(path: string, format: Kind, version: string): Promise<number> {
    const isOpen = this.child && !this.gone && this.opened?.path === path && this.opened.version === version;
    if (isOpen) return this.opened!.pages;
    this.opened = undefined;
    const pdfium = format === 'pdf' ? await packageFolder(PDFIUM) : undefined;
    this.tell({ kind: 'open', path, format, ...(pdfium !== undefined && { pdfium }) });
    const answer = await this.hear().catch((error: unknown) => {
      if (error instanceof ReaderGone) throw new UnreadableError(error.message);
      throw error;
    });
    if (answer.kind === 'failed') {
      if (answer.scarce) throw new ArchiveUnavailableError(`${path} cannot be opened for now: ${answer.why}`);
      throw new UnreadableError(answer.why);
    }
    if (answer.kind !== 'opened') throw new Error(`the reader says ${answer.kind}`);
    this.opened = { path, version, pages: answer.pages };
    return answer.pages;
  }

  /** Pages of a document, from `first` to `last`. One that cannot be read is one that failed, and says why. */
  async *pages(
    path: string,
    format: Kind,
    version: string,
    first: number,
    last: number,
  ): AsyncGenerator<Page> {
    let next = first;
    try {
      while (next <= last) {
        try {
          await this.open(path, format, version);
          this.tell({ kind: 'read', first: next, last });
          while (next <= last) {
            const answer = await this.hear();
            if (answer.kind !== 'page') throw new Error(`the reader says ${answer.kind}`);
            next++;
            yield answer.page;
          }
        } catch (error) {
          // It could be opened before: a page was too much, or the file has gone or has become another meanwhile.
          if (!(error instanceof ReaderGone || error instanceof UnreadableError)) throw error;
          next++;
          yield { state: 'failed', why: error.message, rows: [] };
        }
      }
    } finally {
      // Who takes no more leaves pages behind that were asked for.
      if (next <= last) this.close();
    }
  }

  /** A page as a picture (PNG), `scale` pixels a point. Throws `UnreadableError`. */
  async draw(
    path: string,
    format: Kind,
    version: string,
    number: number,
    scale: number,
  ): Promise<Uint8Array> {
    try {
      await this.open(path, format, version);
      this.tell({ kind: 'draw', number, scale });
      const answer = await this.hear();
      if (answer.kind === 'drawn') return answer.png;
      throw new UnreadableError(answer.kind === 'failed' ? answer.why : `the reader says ${answer.kind}`);
    } catch (error) {
      throw error instanceof ReaderGone ? new UnreadableError(error.message) : error;
    }
  }

  close(): void {
    this.child?.removeAllListeners();
    this.child?.kill('SIGKILL');
    this.child = undefined;
    this.opened = undefined;
    this.gone = undefined;
    this.arrived.length = 0;
  }

  private tell(message: ToReader): void {
    // It may have ended while nothing was asked of it: that is no fault of what is asked now.
    if (this.gone) this.close();
    if (!this.child) this.begin();
    this.child!.send(message, () => {});
  }

  private begin(): void {
    const program = this.options.program ?? new URL('./page-process.js', import.meta.url);
    const child = fork(program, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    this.child = child;
    if (this.options.background) {
      child.unref();
      child.channel?.unref();
    }
    child.on('message', (message: FromReader) => {
      this.arrived.push(message);
      this.wake();
    });
    child.on('error', (error) =>
      this.end(
        new ArchiveUnavailableError(`no process could be started that reads documents: ${error.message}`),
      ),
    );
    child.on('exit', (code) =>
      this.end(new ReaderGone(code === null ? TOO_MUCH : `the process that read it ended with ${code}`)),
    );
    child.send({ kind: 'start', memory: this.options.memory } satisfies ToReader, () => {});
  }

  private end(why: Error): void {
    this.gone ??= why;
    this.wake();
  }

  /**
   * What the process says next. Throws `ReaderGone` when it has ended, or says nothing in time and is ended; `ArchiveUnavailableError` where it
   * could not be started.
   */
  private async hear(): Promise<FromReader> {
    const { seconds } = this.options;
    if (this.arrived.length === 0 && !this.gone) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        timer = setTimeout(() => this.end(new ReaderGone(`it took more than ${seconds} s`)), seconds * 1000);
      });
      clearTimeout(timer);
    }
    const message = this.arrived.shift();
    if (message) return message;
    const why = this.gone!;
    this.close();
    throw why;
  }
}
