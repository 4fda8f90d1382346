/** `heddle archive work`: reads queued pages, concurrently with any number of other workers. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { type Archive, modelKey, pagesToRead, readWithModel } from '../../archive/index.js';
import { positive } from '../../bench/positive.js';
import type { DeviceName } from '../../engine/index.js';
import type { LanguageModel } from '../../generate/index.js';
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

/**
 * The default number of documents that are read concurrently: GPUs profit from many, CPUs do not. Where a GPU's memory does not suffice for
 * them, `readWithModel` goes on with fewer.
 */
const BATCHES: Readonly<Record<DeviceName, number>> = { cpu: 1, wasm: 1, webgpu: 16, cuda: 32 };
/** The polling interval in milliseconds. */
const PAUSE = 2000;

/** Options and action of `heddle archive work`. */
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
      `documents that the model reads side by side (default: ${BATCHES.cuda} with cuda, ${BATCHES.webgpu} with webgpu, else ${BATCHES.cpu})`,
      positive,
    )
    .option(
      '--vectors',
      'keep a vector of the model for each passage too, by which ask finds what is said in other words',
    )
    .addOption(deviceOption());
  addArchiveOptions(addReadingOptions(addLoadingOptions(command))).action((flags: WorkFlags) => run(flags));
}

async function run(flags: WorkFlags): Promise<void> {
  const signal = abortedByPerson();
  await withArchive(flags, { signal }, async (archive) => {
    if (flags.model === undefined) {
      const allRead = await readWaiting(archive, flags, { signal, follow: flags.follow === true });
      if (!allRead && process.exitCode === undefined) process.exitCode = 1;
      return;
    }
    let model: LanguageModel | undefined;
    try {
      for (let again = true; ; again = false) {
        const allRead = await readWaiting(archive, flags, { signal, again });
        if (!allRead && process.exitCode === undefined) process.exitCode = 1;
        if (signal.aborted) return;
        model ??= await loadAsAsked(flags.model, flags);
        await haveRead(archive, flags.model, model, flags, signal);
        if (signal.aborted || !flags.follow) return;
        await untilMore(archive, modelKey(model), signal);
        if (signal.aborted) return;
      }
    } finally {
      await model?.dispose();
    }
  });
}

/** Waits until there is work for this process or for the model. */
async function untilMore(archive: Archive, key: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await archive.totals()).left === 0 && (await pagesToRead(archive, key)) === 0) {
    await sleep(PAUSE, undefined, { signal }).catch(() => {});
  }
}

async function haveRead(
  archive: Archive,
  name: string,
  model: LanguageModel,
  flags: WorkFlags,
  signal: AbortSignal,
): Promise<void> {
  const line = new ProgressLine();
  let pages = 0;
  let tokens = 0;
  let documents = 0;
  let failed = 0;
  const total = await pagesToRead(archive, modelKey(model));
  const began = performance.now();
  const seconds = (since = began): number => (performance.now() - since) / 1000;
  /** When the first run was done, before which programs are compiled, and what was read by then. */
  let first: { at: number; pages: number; tokens: number } | undefined;
  try {
    await readWithModel(archive, model, {
      name,
      batch: flags.batch ?? BATCHES[flags.device ?? 'cpu'],
      vectors: flags.vectors === true,
      signal,
      notice: (text) => line.say(text),
      onRead(morePages, moreTokens) {
        pages += morePages;
        tokens += moreTokens;
        first ??= { at: performance.now(), pages, tokens };
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
  }
  say(
    `${name} read ${counted(documents, 'document')}, ${counted(pages, 'page')} and ${counted(tokens, 'token')} in ${formatDuration(seconds())} (${formatRate(pages / seconds(), 'pages')}, ${formatRate(tokens / seconds())})`,
  );
  if (model.pieceOf && first && pages > first.pages) {
    const [since, more] = [seconds(first.at), tokens - first.tokens];
    say(
      `after the first run, before which programs are compiled or loaded: ${formatRate((pages - first.pages) / since, 'pages')}, ${formatRate(more / since)}`,
    );
  }
  if (signal.aborted) process.exitCode = 130;
}
