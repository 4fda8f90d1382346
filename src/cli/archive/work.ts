/** `heddle archive work`: reads what waits, beside any number of others who do. */
import type { Command } from 'commander';
import { type Archive, modelKey, pagesToRead, readWithModel } from '../../archive/index.js';
import { positive } from '../../bench/positive.js';
import { formatDuration, formatRate } from '../format.js';
import { abortedByPerson } from '../interrupt.js';
import {
  addLoadingOptions,
  deviceOption,
  type LoadingFlags,
  loadAsAsked,
  MODEL_HELP,
} from '../loading-options.js';
import { addArchiveOptions, counted, say, withArchive } from './options.js';
import { ProgressLine } from './progress.js';
import { addReadingOptions, type ReadingFlags, readWaiting } from './reading.js';

interface WorkFlags extends ReadingFlags, LoadingFlags {
  follow?: boolean;
  model?: string;
  batch?: number;
  vectors?: boolean;
}

/** Documents that are read side by side where nothing is said: a GPU gains by many, cores by none. */
const BATCHES = { cpu: 1, other: 16 };

export function configureWork(command: Command): void {
  command
    .description(
      'read the pages that wait; any number of machines may do so on one PostgreSQL, and be ended at any moment',
    )
    .option('--follow', 'wait for more when all is read')
    .option(
      '--model <model>',
      `then have a model read each document into a state, to ask it from: ${MODEL_HELP}`,
    )
    .option(
      '--batch <n>',
      `documents that the model reads side by side (default: ${BATCHES.cpu} on the cpu, ${BATCHES.other} elsewhere)`,
      positive,
    )
    .option(
      '--vectors',
      'keep a vector of the model for each passage too, by which search for ask orders what it finds',
    )
    .addOption(deviceOption());
  addArchiveOptions(addReadingOptions(addLoadingOptions(command))).action((flags: WorkFlags) => run(flags));
}

async function run(flags: WorkFlags): Promise<void> {
  const signal = abortedByPerson();
  await withArchive(flags, { signal }, async (archive) => {
    const follow = flags.follow === true && flags.model === undefined;
    const allRead = await readWaiting(archive, flags, { signal, follow });
    if (!allRead && process.exitCode === undefined) process.exitCode = 1;
    if (flags.model !== undefined && !signal.aborted) await haveRead(archive, flags.model, flags, signal);
  });
}

async function haveRead(
  archive: Archive,
  name: string,
  flags: WorkFlags,
  signal: AbortSignal,
): Promise<void> {
  const model = await loadAsAsked(name, flags);
  const line = new ProgressLine();
  let pages = 0;
  let tokens = 0;
  let documents = 0;
  let failed = 0;
  const total = await pagesToRead(archive, modelKey(model));
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  try {
    await readWithModel(archive, model, {
      name,
      batch: flags.batch ?? ((flags.device ?? 'cpu') === 'cpu' ? BATCHES.cpu : BATCHES.other),
      vectors: flags.vectors === true,
      signal,
      onRead(morePages, moreTokens) {
        pages += morePages;
        tokens += moreTokens;
        line.show(() => {
          const left = Math.max(0, total - pages);
          const time = pages > 0 && left > 0 ? `, ${formatDuration((left * seconds()) / pages)} left` : '';
          return `${name} read ${counted(pages, 'page')}  ${formatRate(pages / seconds(), 'pages')}  ${formatRate(tokens / seconds())}  ${counted(left, 'page')} left${time}, ${failed} failed`;
        });
      },
      onDocument(document, _, why) {
        documents++;
        if (why === undefined) return;
        failed++;
        line.say(`${document}: ${why}`);
      },
    });
  } finally {
    line.clear();
    await model.dispose();
  }
  say(
    `${name} read ${counted(documents, 'document')}, ${counted(pages, 'page')} and ${counted(tokens, 'token')} in ${formatDuration(seconds())} (${formatRate(pages / seconds(), 'pages')}, ${formatRate(tokens / seconds())})`,
  );
  if (signal.aborted) process.exitCode = 130;
}
