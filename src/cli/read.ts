/**
 * `heddle read`: reads texts once and saves the state. `generate` and `chat` continue from it with `--state`, as if they had just read the texts.
 */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import type { LanguageModel, Session } from '../generate/index.js';
import { expectNoSource } from '../models/index.js';
import { expectWritable } from '../platform/node/writable.js';
import { type CorpusDocument, loadCorpus } from '../text/index.js';
import { formatBytes, formatCount, formatDuration, formatRate } from './format.js';
import { leavingNothing } from './interrupt.js';
import {
  addLoadingOptions,
  deviceOption,
  type LoadingFlags,
  loadAsAsked,
  MODEL_HELP,
} from './loading-options.js';
import { beyondTraining } from './trained-length.js';

interface ReadFlags extends LoadingFlags {
  save: string;
}

/** Arguments, options and action of `heddle read`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .argument(
      '<files...>',
      'text files, or folders with .txt and .md files, in the order in which they are read',
    )
    .requiredOption('--save <file>', 'where the state is kept, such as book.state')
    .addOption(deviceOption());
  addLoadingOptions(command).action((folder: string, files: string[], flags: ReadFlags) =>
    leavingNothing(() => run(folder, files, flags)),
  );
}

async function run(folder: string, files: readonly string[], flags: ReadFlags): Promise<void> {
  await expectWritable(flags.save);
  const documents: CorpusDocument[] = [];
  for (const file of files) {
    const corpus = await loadCorpus(file);
    for (const path of corpus.leftOut) say(`left out ${path}`);
    documents.push(...corpus.documents);
  }
  const model = await loadAsAsked(folder, flags);
  expectNoSource(model.model, "'read'");
  const name = documents.length === 1 ? documents[0]!.name : `${documents.length} texts`;
  const characters = documents.reduce((sum, { text }) => sum + text.length, 0);
  say(`reading ${name}, ${formatCount(characters)} characters`);
  const session = model.session();
  const started = performance.now();
  await readAll(model, session, documents, new Progress(characters));
  const seconds = (performance.now() - started) / 1000;
  await (await session.snapshot()).save(flags.save);
  const read = session.tokens.length;
  const { size } = await stat(flags.save);
  say(
    `read ${read.toLocaleString('en')} tokens of ${name} in ${formatDuration(seconds)} (${formatRate(read / seconds)}), state ${formatBytes(size)} in ${flags.save}${beyondTraining(model, read)}`,
  );
  say(`next:  ${heddleCall('chat', folder, '--state', flags.save)}`);
  session.dispose();
  await model.dispose();
}

/** Reads texts in order, separated by blank lines, with progress. */
async function readAll(
  { tokenizer, chunk }: LanguageModel,
  session: Session,
  documents: readonly CorpusDocument[],
  progress: Progress,
): Promise<void> {
  let before = 0;
  try {
    for (const [i, { text, continues }] of documents.entries()) {
      const ids =
        i === 0 ? tokenizer.encodeFromStart(text) : tokenizer.encode(continues ? text : `\n\n${text}`);
      for (let start = 0; start < ids.length; start += chunk) {
        const piece = ids.slice(start, start + chunk);
        await session.read(piece);
        progress.show(before + (text.length * (start + piece.length)) / ids.length, session.tokens.length);
      }
      before += text.length;
    }
  } finally {
    progress.clear();
  }
}

/** A live line on a terminal, one every ten seconds elsewhere. */
class Progress {
  private readonly live = process.stderr.isTTY === true;
  private readonly started = performance.now();
  private lastLine = this.started;

  /** `total` is in characters. */
  constructor(private readonly total: number) {}

  show(characters: number, tokens: number): void {
    const now = performance.now();
    if (now - this.lastLine < (this.live ? 100 : 10_000)) return;
    this.lastLine = now;
    const seconds = (now - this.started) / 1000;
    const share = characters / this.total;
    const left = formatDuration((seconds * (1 - share)) / share);
    const line = `read ${formatCount(tokens)} tokens, ${Math.floor(100 * share)} %  ${formatRate(tokens / seconds)}  ${left} left`;
    if (this.live) process.stderr.write(`\r\x1b[K${line}`);
    else say(line);
  }

  clear(): void {
    if (this.live) process.stderr.write('\r\x1b[K');
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
