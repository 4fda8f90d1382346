/**
 * The process that reads documents. A file may make a reader loop, or take all memory: then this process is killed, and what it did not
 * harm goes on. It answers one request after the other; what it is asked and says is in page-reader.ts.
 */
import { Worker } from 'node:worker_threads';
import { encode } from 'fast-png';
import { OPENERS } from './formats/open.js';
import { type OpenDocument, UnreadableError } from './formats/page.js';
import { Pdfium } from './formats/pdf.js';
import type { FromReader, ToReader } from './page-reader.js';
import { isScarce } from './scarce.js';

let pdfium: Promise<Pdfium> | undefined;
let open: OpenDocument | undefined;

/** Ends the process when it takes too much memory: from a thread, since the one that reads may be deep in a loop. */
function limitMemory(bytes: number): void {
  const watch = `
    const limit = ${bytes};
    setInterval(() => { if (process.memoryUsage.rss() > limit) process.kill(process.pid, 'SIGKILL'); }, 100);
  `;
  new Worker(watch, { eval: true }).unref();
}

async function answer(request: ToReader): Promise<void> {
  switch (request.kind) {
    case 'start':
      limitMemory(request.memory);
      return;
    case 'open': {
      open?.close();
      open = undefined;
      pdfium ??= request.pdfium === undefined ? undefined : Pdfium.load(request.pdfium);
      try {
        open = await OPENERS[request.format](request.path, () => pdfium!);
        say({ kind: 'opened', pages: open.pages });
      } catch (error) {
        say({ kind: 'failed', scarce: isScarce(error), why: reasonOf(error) });
      }
      return;
    }
    case 'read':
      for (let number = request.first; number <= request.last; number++) {
        try {
          say({ kind: 'page', number, page: await open!.page(number) });
        } catch (error) {
          say({ kind: 'page', number, page: { state: 'failed', why: reasonOf(error), rows: [] } });
        }
      }
      return;
    case 'draw':
      try {
        if (!open?.render) throw new UnreadableError('it has no pages that are drawn');
        say({ kind: 'drawn', png: encode(open.render(request.number, request.scale)) });
      } catch (error) {
        say({ kind: 'failed', scarce: isScarce(error), why: reasonOf(error) });
      }
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message.includes('ENOENT')) return 'the file is gone';
  // PDFium's memory is full, or it ran into what should not happen.
  if (error instanceof WebAssembly.RuntimeError) return `it is damaged (${error.message})`;
  return error.message;
}

function say(message: FromReader): void {
  process.send!(message);
}

let last: Promise<void> = Promise.resolve();
process.on('message', (request: ToReader) => {
  last = last.then(() => answer(request));
});
// Whoever asked is gone.
process.on('disconnect', () => process.exit());
// Ctrl-C at a terminal, and its closing, go to all its processes; this one ends with the one that asks.
process.on('SIGINT', () => {}).on('SIGHUP', () => {});
