/** Reads the queued pages of an archive with progress, for `add` and `work`. */
import { type Command, Option } from 'commander';
import { type Archive, openRecognizer, PAGE_STATES, type PageState, work } from '../../archive/index.js';
import { positive } from '../../bench/positive.js';
import { heddleCall } from '../../command-line.js';
import { formatDuration, formatRate } from '../format.js';
import { wholeNumber } from '../options.js';
import { type ArchiveFlags, counted, sameArchive, say } from './options.js';
import { PageProblems } from './page-problems.js';
import { ProgressLine } from './progress.js';

/** The options of commands that read pages: seconds in `pageTime`, MB in `pageMemory`. */
export interface ReadingFlags extends ArchiveFlags {
  lanes?: number;
  pageTime: number;
  pageMemory: number;
  ocr?: string;
  retry?: boolean;
}

/** Adds these options to a command. */
export function addReadingOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--lanes <n>', 'processes that read pages (default: one a core)').argParser(positive),
    )
    .option('--page-time <s>', 'time that a page may take', wholeNumber, 30)
    .option('--page-memory <MB>', 'memory that a process may take', wholeNumber, 1500)
    .option(
      '--ocr <language>',
      'recognise scanned pages, with tesseract.js in a language such as eng or deu; those read before as well',
    )
    .option('--retry', 'read again what could not be read before: documents, and pages');
}

/** The interval in which the remaining work is counted, in milliseconds. */
const ASKED = 2000;

/** `again` is false if failed pages were requeued already. Returns whether everything could be read. */
export async function readWaiting(
  archive: Archive,
  flags: ReadingFlags,
  { signal, follow = false, again = true }: { signal: AbortSignal; follow?: boolean; again?: boolean },
): Promise<boolean> {
  const recognizer = flags.ocr === undefined ? undefined : await openRecognizer(flags.ocr);
  if (again) await retryAsAsked(archive, flags);
  const line = new ProgressLine();
  const unread = new PageProblems((text) => line.say(text));
  const counts = Object.fromEntries(PAGE_STATES.map((state) => [state, 0])) as Record<PageState, number>;
  let { left } = await archive.totals();
  let pages = 0;
  let written = 0;
  let problems = 0;
  const recent: [time: number, pages: number][] = [];
  const began = performance.now();
  const asking = setInterval(() => {
    archive.totals().then(
      (totals) => {
        left = totals.left;
      },
      () => {},
    );
  }, ASKED);
  const rate = (): number => {
    const [time, from] = recent[0] ?? [began, 0];
    return ((pages - from) / Math.max(1, performance.now() - time)) * 1000;
  };
  try {
    await work(archive, {
      signal,
      follow,
      recognizer,
      ...(flags.lanes !== undefined && { lanes: flags.lanes }),
      reader: { seconds: flags.pageTime, memory: flags.pageMemory * 1e6 },
      onPage({ path, number, state, why }) {
        pages++;
        counts[state]++;
        if (state === 'failed') problems++;
        if (state === 'failed' || (state === 'scanned' && flags.ocr !== undefined)) {
          unread.add(path, number, why ?? state);
        } else unread.flush(path);
        const now = performance.now();
        if (now - (recent.at(-1)?.[0] ?? 0) > 250) recent.push([now, pages]);
        while (recent.length > 40) recent.shift();
        line.show(() => {
          const speed = rate();
          const time = left > 0 && speed > 0 ? `, ${formatDuration(left / speed)} left` : '';
          return `read ${counted(pages, 'page')}  ${formatRate(speed, 'pages')}  ${counted(left, 'page')} left${time}, ${counts.failed} failed`;
        });
      },
      onWritten(count) {
        written += count;
        left = Math.max(0, left - count);
      },
      onFailed(path, why) {
        problems++;
        line.say(`${path}: ${why}`);
      },
    });
  } finally {
    clearInterval(asking);
    unread.flush();
    line.clear();
    await recognizer?.close();
  }
  const seconds = (performance.now() - began) / 1000;
  if (written > 0) {
    const states = PAGE_STATES.filter((state) => counts[state] > 0).map(
      (state) => `${counts[state]} ${state}`,
    );
    line.say(
      `read ${counted(written, 'page')} in ${formatDuration(seconds)} (${formatRate(written / seconds, 'pages')}): ${states.join(', ')}`,
    );
    await archive.learn();
  }
  if (counts.scanned > 0 && flags.ocr === undefined) {
    line.say(
      `${counted(counts.scanned, 'page')} ${counts.scanned === 1 ? 'is' : 'are'} scanned, and only recognised with --ocr, as in: ${heddleCall('archive', 'add', '--ocr', 'eng', ...sameArchive(flags))}`,
    );
  }
  const { left: rest, documents, pages: byState } = await archive.totals();
  if (documents.failed + byState.failed > 0 && !flags.retry && flags.ocr === undefined) {
    line.say(
      `${listed(documents.failed, byState.failed)} could not be read; this tries again: ${heddleCall('archive', 'work', '--retry', ...sameArchive(flags))}`,
    );
  }
  if (signal.aborted) {
    line.say(
      `stopped with ${counted(rest, 'page')} left; this goes on: ${heddleCall('archive', 'work', ...sameArchive(flags))}`,
    );
    process.exitCode = 130;
  }
  return problems === 0;
}

/** Requeues failed documents and pages on request, and scanned pages if OCR is now available. */
async function retryAsAsked(archive: Archive, { ocr, retry }: ReadingFlags): Promise<void> {
  if (ocr === undefined && !retry) return;
  // OCR may read pages whose fonts could not be decoded.
  const { documents, pages } = await archive.queue.retry(
    ocr === undefined ? ['failed'] : ['scanned', 'failed'],
  );
  if (documents + pages > 0) say(`read again: ${listed(documents, pages)}`);
}

/** `2 documents and 1 page`. */
function listed(documents: number, pages: number): string {
  const parts = [documents > 0 && counted(documents, 'document'), pages > 0 && counted(pages, 'page')];
  return parts.filter((part) => part !== false).join(' and ');
}
