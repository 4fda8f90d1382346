/** `heddle pull`: from a repository on a model hub to a model in a folder. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { hubFromEnvironment, type PullEvent, pull } from '../hub/index.js';
import { formatBytes, formatDuration } from './format.js';

interface PullOptions {
  out?: string;
  revision: string;
}

export function configure(command: Command): void {
  command
    .argument('<owner/name>', "the model, as the hub's page names it")
    .option('-o, --out <folder>', 'where the model goes (default: models/<owner>/<name>)')
    .option('--revision <name>', 'a branch, a tag or a commit', 'main')
    .action(run);
}

async function run(repo: string, options: PullOptions): Promise<void> {
  const folder = options.out ?? join('models', ...repo.split('/'));
  const interrupt = new AbortController();
  let interruptedAt = 0;
  const onSignal = (): void => {
    // Whoever stops a whole group of processes may signal this one twice at once; that is not an impatient person.
    if (interrupt.signal.aborted && performance.now() - interruptedAt > 1000) process.exit(130);
    if (interrupt.signal.aborted) return;
    interruptedAt = performance.now();
    interrupt.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const progress = new Progress(repo, options.revision, folder);
  try {
    const { files, bytes, downloaded } = await pull({
      repo,
      revision: options.revision,
      folder,
      hub: hubFromEnvironment(),
      signal: interrupt.signal,
      onEvent: (event) => progress.show(event),
    });
    progress.end();
    if (downloaded === 0) {
      say(
        `complete already: all ${files} files are in ${folder}, with the hub's checksums; nothing to download`,
      );
    } else {
      say(`done: ${files} files, ${formatBytes(bytes)} in ${folder}, with the hub's checksums`);
    }
    say(`next:  ${heddleCall('info', folder)}`);
    say(`       ${heddleCall('chat', folder)}`);
  } catch (error) {
    progress.end();
    if (!interrupt.signal.aborted) throw error;
    say('interrupted: what was downloaded is kept. Go on with the same command.');
    process.exitCode = 130;
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The rate shown is that of the last moments, in seconds. */
const RATE_OVER = 10;

/** A live line on a terminal, a plain line every ten seconds elsewhere. */
class Progress {
  readonly #live = process.stderr.isTTY === true;
  readonly #timer = setInterval(() => this.#draw(), this.#live ? 200 : 10_000).unref();
  /** What is going on at this moment. */
  #now: (PullEvent & { event: 'checking' | 'downloading' }) | undefined;
  #samples: { at: number; received: number }[] = [];

  constructor(
    private readonly repo: string,
    private readonly revision: string,
    private readonly folder: string,
  ) {}

  show(event: PullEvent): void {
    if (event.event === 'checking' || event.event === 'downloading') {
      if (this.#samples.length === 0 && event.event === 'downloading') this.#sample(0);
      this.#now = event;
    } else if (event.event === 'plan') {
      this.#showPlan(event);
    } else if (event.event === 'mismatch') {
      this.#tell(`${event.name} came with the wrong checksum: downloading it once more`);
    } else if (event.event === 'changed') {
      this.#tell(`${this.repo} has changed meanwhile: looking again at what it has`);
    } else {
      this.#tell(`${event.reason}: trying again in ${formatDuration(event.seconds)}`);
    }
  }

  /** Wipes the live line. */
  clear(): void {
    if (this.#live) process.stderr.write('\r\x1b[K');
  }

  /** Nothing more will be shown. */
  end(): void {
    clearInterval(this.#timer);
    this.clear();
  }

  #showPlan(plan: PullEvent & { event: 'plan' }): void {
    const { files, bytes, missingFiles, missingBytes, replaced, hasTokenizer } = plan;
    this.#tell(`${this.repo} (${this.revision}): ${files} files, ${formatBytes(bytes)}, into ${this.folder}`);
    if (missingFiles > 0 && missingBytes < bytes) {
      this.#tell(
        `of these ${formatBytes(bytes - missingBytes)} are there already: ${formatBytes(missingBytes)} to download`,
      );
    }
    if (replaced.length > 0) this.#tell(`replacing what is not as the hub has it: ${replaced.join(', ')}`);
    if (!hasTokenizer) this.#tell('it has no tokenizer.json: the model will know token ids, and no text');
  }

  #tell(line: string): void {
    this.clear();
    say(line);
  }

  #draw(): void {
    if (this.#now === undefined) return;
    const { event, name, done, total } = this.#now;
    let line = `checking ${name}: ${formatBytes(done)} of ${formatBytes(total)}`;
    if (event === 'downloading') {
      this.#sample(this.#now.received);
      line = `${formatBytes(done)} of ${formatBytes(total)}  ${this.#pace(total - done)}  ${name}`;
    }
    if (this.#live) process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
    else say(line);
  }

  #sample(received: number): void {
    const at = performance.now() / 1000;
    this.#samples.push({ at, received });
    // One older than the span is kept to measure from.
    while (this.#samples.length > 2 && this.#samples[1]!.at < at - RATE_OVER) this.#samples.shift();
  }

  /** Rate and remaining time. */
  #pace(bytesLeft: number): string {
    const first = this.#samples[0]!;
    const last = this.#samples.at(-1)!;
    const rate = Math.round((last.received - first.received) / (last.at - first.at));
    if (!(rate > 0)) return 'nothing comes at the moment';
    return `${formatBytes(rate)}/s  ${formatDuration(bytesLeft / rate)} left`;
  }
}
