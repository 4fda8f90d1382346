/** Scanned pages by tesseract.js, where it is asked for. It and its languages are large, so that they are the project's to install. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ArchiveError } from '../errors.js';
import type { Row } from './formats/page.js';

/** Pixels a point: 200 a inch, with which recognition is good. */
const SCALE = 200 / 72;

/** What of tesseract.js is used. */
interface Tesseract {
  createWorker(
    languages: string,
    mode: number,
    options: { langPath: string; gzip: boolean; cacheMethod: 'none' },
  ): Promise<{
    recognize(
      image: Buffer,
      options: object,
      output: { blocks: true },
    ): Promise<{
      data: {
        blocks:
          | {
              paragraphs: {
                lines: {
                  text: string;
                  bbox: { x0: number; y0: number; x1: number; y1: number };
                }[];
              }[];
            }[]
          | null;
      };
    }>;
    terminate(): Promise<unknown>;
  }>;
}

/** What recognises one picture (PNG) at a time: a worker of tesseract.js. */
export interface Recognition {
  read(png: Uint8Array): Promise<Row[]>;
  /** Ends it, whatever it is at. */
  close(): Promise<void>;
}

/** Recognises pictures one after the other, whoever asks. A recognition that takes too long is ended, and another goes on with the next picture. */
export class Recognizer {
  private recognition: Promise<Recognition> | undefined;
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    /** Pixels a point of the pictures that it takes. */
    readonly scale: number,
    private readonly begin: () => Promise<Recognition>,
  ) {}

  /** Begins the first recognition. Throws as `begin` does. */
  static async open(scale: number, begin: () => Promise<Recognition>): Promise<Recognizer> {
    const recognizer = new Recognizer(scale, begin);
    recognizer.recognition = begin();
    await recognizer.recognition;
    return recognizer;
  }

  /**
   * The lines on a picture (PNG). `seconds` is how long it may take from its turn on. Throws `Error` where it takes longer, and the signal's
   * reason.
   */
  read(
    png: Uint8Array,
    { seconds, signal }: { seconds: number; signal?: AbortSignal | undefined },
  ): Promise<Row[]> {
    const done = this.last.then(() => this.atTurn(png, seconds, signal));
    this.last = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    const { recognition } = this;
    this.recognition = undefined;
    await (await recognition?.catch(() => undefined))?.close();
  }

  private async atTurn(png: Uint8Array, seconds: number, signal: AbortSignal | undefined): Promise<Row[]> {
    signal?.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let stop = (): void => {};
    const ended = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it took more than ${seconds} s`)), 1000 * seconds);
      stop = () => reject(signal!.reason);
      signal?.addEventListener('abort', stop);
    });
    this.recognition ??= this.begin();
    const rows = this.recognition.then((recognition) => recognition.read(png));
    try {
      return await Promise.race([rows, ended]);
    } catch (error) {
      // One that hangs would hold up all others, and one that failed may be broken.
      rows.catch(() => {});
      this.close().catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
  }
}

/** @param language as tesseract names them, such as `eng` or `deu`. Throws `ArchiveError`, with the command that installs what is missing. */
export async function openRecognizer(language: string): Promise<Recognizer> {
  if (!/^[a-z_]{3,20}$/i.test(language)) {
    throw new ArchiveError(
      `there is no language '${language}' for recognition: tesseract names them as in eng, deu, fra`,
    );
  }
  const data = `@tesseract.js-data/${language}`;
  const library = found('tesseract.js');
  const languageFile = found(data);
  if (library === undefined || languageFile === undefined) {
    throw new ArchiveError(
      `scanned pages are recognised by tesseract.js, which is not installed: npm install tesseract.js ${data}`,
    );
  }
  const langPath = [join(languageFile, '4.0.0_best_int'), join(languageFile, '4.0.0')].find((folder) =>
    existsSync(join(folder, `${language}.traineddata.gz`)),
  );
  if (langPath === undefined)
    throw new ArchiveError(`${data} has no ${language}.traineddata.gz: install it again`);
  const loaded = (await import(pathToFileURL(join(library, 'src/index.js')).href)) as
    | Tesseract
    | { default: Tesseract };
  const tesseract = 'default' in loaded ? loaded.default : loaded;
  return Recognizer.open(SCALE, async () => {
    const worker = await tesseract.createWorker(language, 1, { langPath, gzip: true, cacheMethod: 'none' });
    return {
      async read(png) {
        const { data: page } = await worker.recognize(Buffer.from(png), {}, { blocks: true });
        const lines = (page.blocks ?? []).flatMap(({ paragraphs }) =>
          paragraphs.flatMap(({ lines: each }) => each.map((line, i) => ({ ...line, begins: i === 0 }))),
        );
        return lines
          .map(({ text, bbox: { x0, y0, x1, y1 }, begins }) => ({
            text: text.trim(),
            box: [x0 / SCALE, y0 / SCALE, x1 / SCALE, y1 / SCALE] as const,
            size: (y1 - y0) / SCALE,
            begins,
          }))
          .filter(({ text }) => text !== '');
      },
      async close() {
        await worker.terminate();
      },
    };
  });
}

/** The folder of a package that the project, or the program around us, has installed. */
function found(name: string): string | undefined {
  for (const from of [join(process.cwd(), 'package.json'), import.meta.url]) {
    const folders = createRequire(from).resolve.paths(name) ?? [];
    const folder = folders
      .map((modules) => join(modules, name))
      .find((each) => existsSync(join(each, 'package.json')));
    if (folder !== undefined) return folder;
  }
  return undefined;
}
