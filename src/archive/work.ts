/** Reads the pages that are still to be read: any number of processes may do so at the same time. */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ArchiveError, ArchiveUnavailableError } from '../errors.js';
import type { Archive } from './archive.js';
import { kindOf } from './formats/kind.js';
import { type Kind, type Page, type PageState, UnreadableError } from './formats/page.js';
import type { Recognizer } from './ocr.js';
import { PageReader, type PageReaderOptions, READER_DEFAULTS } from './page-reader.js';
import { PageTexts } from './passages.js';
import { ATTEMPTS, HEARTBEAT, LostError, type Stretch } from './queue.js';
import { entryOf, hashOf, isUnchanged } from './scan.js';
import { isScarce } from './scarce.js';

/** How pages are read, and who is told. */
export interface WorkOptions {
  /** Processes that read; by default one a core. */
  readonly lanes?: number;
  /** Ends it between two pages; what was not written is read again another time. */
  readonly signal?: AbortSignal | undefined;
  /** Waits for more when all is read, until the signal is aborted. */
  readonly follow?: boolean;
  /** Reads scanned pages. */
  readonly recognizer?: Recognizer | undefined;
  readonly reader?: Partial<PageReaderOptions>;
  /** Is told each page, once it is read; it is written a little later. */
  readonly onPage?: (page: WorkedPage) => void;
  /** Is told what was written. */
  readonly onWritten?: (pages: number) => void;
  /** Is told of documents that cannot be read. */
  readonly onFailed?: (path: string, why: string) => void;
}

/** A page that was read, or could not be. */
export interface WorkedPage {
  readonly path: string;
  readonly number: number;
  readonly state: PageState;
  readonly why: string | undefined;
}

/** Pages before and behind a stretch that are looked at too, so that headers and headings do not depend on where it was cut. */
const CONTEXT = 2;
/** How long to wait for work that others have, in milliseconds. */
const PAUSE = 500;

/** Reads until nothing is left, or the signal is aborted. Throws `ArchiveError` when the archive cannot be used any more. */
export async function work(archive: Archive, options: WorkOptions = {}): Promise<void> {
  const { lanes = availableParallelism(), signal } = options;
  const failure = new AbortController();
  const stop = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const all = Array.from({ length: lanes }, () => new Lane(archive, options, stop));
  const beat = setInterval(() => {
    const held = all.flatMap(({ stretch }) => stretch?.id ?? []);
    archive.queue.renew(held).catch(() => {});
  }, HEARTBEAT * 1000);
  try {
    await Promise.all(
      all.map(async (lane) => {
        try {
          await lane.run();
        } catch (error) {
          failure.abort(error);
          throw error;
        } finally {
          lane.close();
        }
      }),
    );
  } finally {
    clearInterval(beat);
    await archive.queue.release().catch(() => {});
  }
}

/** Reads one stretch after the other, with a process of its own. */
class Lane {
  private readonly reader: PageReader;
  /** What it reads at the moment. */
  stretch: Stretch | undefined;

  constructor(
    private readonly archive: Archive,
    private readonly options: WorkOptions,
    private readonly signal: AbortSignal,
  ) {
    this.reader = new PageReader(options.reader);
  }

  close(): void {
    this.reader.close();
  }

  /** How long recognising a page may take from its turn on, in seconds: it is slower than reading by far. */
  private get recognizing(): number {
    return 4 * (this.options.reader?.seconds ?? READER_DEFAULTS.seconds);
  }

  async run(): Promise<void> {
    while (!this.signal.aborted) {
      this.stretch = await this.archive.queue.claim();
      if (this.stretch) {
        try {
          await this.read(this.stretch);
        } catch (error) {
          if (!(error instanceof LostError)) throw error;
        }
      } else if (this.options.follow || (await this.archive.totals()).left > 0) {
        await sleep(PAUSE, undefined, { signal: this.signal }).catch(() => {});
      } else return;
    }
  }

  private async read(stretch: Stretch): Promise<void> {
    const { archive } = this;
    const path = await this.pathOf(stretch);
    if (path === undefined) return;
    const version = stretch.content;
    let format: Kind | undefined;
    let last = stretch.last;
    try {
      if (stretch.attempts > ATTEMPTS) throw new UnreadableError(GIVEN_UP);
      format = await kindOf(path);
      if (last === null) {
        last = await archive.queue.opened(stretch, format, await this.reader.open(path, format, version));
      }
    } catch (error) {
      if (isScarce(error))
        throw new ArchiveUnavailableError(`${path} cannot be opened for now: ${messageOf(error)}`);
      const why = unreadable(error);
      if (why === undefined) throw error;
      if (last === null) {
        await archive.queue.fail(stretch, format, why);
        this.options.onFailed?.(path, why);
        return;
      }
      await this.giveUp(stretch, path, last, why);
      return;
    }
    const pages = await this.pagesOf(path, format, stretch.first, last, version);
    if (pages === undefined) return;
    // What was read is what the file has now, unless somebody has written to it meanwhile.
    if ((await this.pathOf(stretch)) === undefined) return;
    const before = stretch.first - Math.max(1, stretch.first - CONTEXT);
    const texts = new PageTexts().of(pages).slice(before, before + last - stretch.first + 1);
    await archive.queue.finish(stretch, texts);
    this.options.onWritten?.(texts.length);
  }

  /** The pages of a stretch and those around it; undefined when the work is stopped. */
  private async pagesOf(
    path: string,
    format: Kind,
    first: number,
    last: number,
    version: string,
  ): Promise<Page[] | undefined> {
    const { recognizer, onPage } = this.options;
    const count = await this.reader.open(path, format, version).catch((error: unknown) => {
      if (error instanceof UnreadableError) return last;
      throw error;
    });
    const from = Math.max(1, first - CONTEXT);
    const to = Math.min(count, last + CONTEXT);
    const pages: Page[] = [];
    for await (const page of this.reader.pages(path, format, version, from, to)) {
      if (this.signal.aborted) return undefined;
      pages.push(page);
    }
    for (let number = first; number <= last; number++) {
      const page = pages[number - from]!;
      if (recognizer && (page.state === 'scanned' || page.state === 'failed')) {
        pages[number - from] = await this.recognized(page, path, format, version, number);
        if (this.signal.aborted) return undefined;
      }
      const { state, why } = pages[number - from]!;
      onPage?.({ path, number, state, why });
    }
    return pages;
  }

  /** What can be read of a picture of a page; the page as it was where nothing can. */
  private async recognized(
    page: Page,
    path: string,
    format: Kind,
    version: string,
    number: number,
  ): Promise<Page> {
    const { recognizer } = this.options;
    try {
      const png = await this.reader.draw(path, format, version, number, recognizer!.scale);
      const rows = await recognizer!.read(png, { seconds: this.recognizing, signal: this.signal });
      if (rows.length === 0) return { ...page, why: 'nothing was recognised on it' };
      return { ...page, state: 'read', why: 'recognised', rows };
    } catch (error) {
      return { ...page, why: `it could not be recognised: ${messageOf(error)}` };
    }
  }

  /** Writes the pages of a stretch as failed. */
  private async giveUp(stretch: Stretch, path: string, last: number, why: string): Promise<void> {
    const pages = Array.from({ length: last - stretch.first + 1 }, () => ({
      state: 'failed' as const,
      why,
      passages: [],
    }));
    await this.archive.queue.finish(stretch, pages);
    this.options.onFailed?.(path, `pages ${stretch.first} to ${last}: ${why}`);
    this.options.onWritten?.(pages.length);
  }

  /**
   * A file that has the stretch's content still, one whose format is known if there is any. Where there is none, the archive is told of what
   * there is instead, and the stretch is gone with the document. Throws `ArchiveError` where the files' folder is not to be seen from this
   * machine.
   */
  private async pathOf({ content }: Stretch): Promise<string | undefined> {
    const { archive } = this;
    const files = await archive.filesOf(content);
    const here: string[] = [];
    for (const file of files) {
      const now = await entryOf(file.path).catch(() => undefined);
      if (now && isUnchanged(file, now)) here.push(file.path);
    }
    // By the name of one copy it may be what nothing reads, and by that of another a document.
    for (const path of here) if (await kindOf(path).then(Boolean, () => false)) return path;
    if (here.length > 0) return here[0];
    const roots = await archive.roots();
    for (const { path } of files) {
      const root = roots.find((each) => path === each || path.startsWith(`${each}/`));
      if (root !== undefined && root !== path && !existsSync(root)) {
        throw new ArchiveUnavailableError(
          `this machine does not see ${root}, whose documents are to be read: mount it at the same path`,
        );
      }
      try {
        const now = await entryOf(path);
        await archive.putFile(now, await hashOf(path), basename(path));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
          this.options.onFailed?.(path, 'it is gone since it was added');
          await archive.removeFiles([path]);
        } else if (isScarce(error)) throw error;
        else await archive.putProblem(path, messageOf(error));
      }
    }
    // A file that was only touched has its content still, and another time: then the stretch is there, and is read.
    const again = await archive.filesOf(content);
    return again[0]?.path;
  }
}

const GIVEN_UP = `${ATTEMPTS} workers ended while they read it`;

/** Why a document cannot be read; undefined for errors that are not the document's. */
function unreadable(error: unknown): string | undefined {
  if (error instanceof UnreadableError) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return /^E[A-Z]+$/.test(code ?? '') && !(error instanceof ArchiveError) ? message : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
