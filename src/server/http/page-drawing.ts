/** Images of the pages of an archive's documents. */
import { type Archive, type DocumentEntry, entryOf, isUnchanged, PageReader } from '../../archive/index.js';
import { ArchiveError } from '../../errors.js';
import { ApiError } from './api-error.js';

/** Renders pages, one at a time, in a child process that ends when it is idle. */
export class PageDrawing {
  private readonly reader = new PageReader({ background: true });
  private last: Promise<unknown> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;

  /**
   * Renders a page of a PDF as PNG, at `scale` pixels a point. Throws `ApiError` (404) for a document of another format, a page that cannot be
   * rendered, and a file that has changed.
   */
  draw(archive: Archive, document: DocumentEntry, page: number, scale: number): Promise<Uint8Array> {
    const done = this.last.then(() => this.run(archive, document, page, scale));
    this.last = done.catch(() => {});
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.last = this.last.then(() => this.reader.close());
    }, 60_000).unref();
    return done;
  }

  private async run(
    archive: Archive,
    { content, format }: DocumentEntry,
    page: number,
    scale: number,
  ): Promise<Uint8Array> {
    if (format !== 'pdf') {
      throw new ApiError(404, 'not_drawn', 'this document has no pages that are drawn: its text is there', {
        param: 'id',
      });
    }
    for (const file of await archive.filesOf(content)) {
      const now = await entryOf(file.path).catch(() => undefined);
      if (!now || !isUnchanged(file, now)) continue;
      return this.reader.draw(file.path, format, content, page, scale).catch((error: Error) => {
        if (error instanceof ArchiveError) throw error;
        throw new ApiError(404, 'not_drawn', `the page cannot be drawn: ${error.message}`, { param: 'page' });
      });
    }
    throw new ApiError(
      404,
      'file_gone',
      'the file has changed or is gone since it was read: add its folder again',
      { param: 'id' },
    );
  }
}
