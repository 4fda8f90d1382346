/** `heddle pull`: downloads a model from a hub. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { hubFromEnvironment, type PullEvent, pull } from '../hub/index.js';
import { DownloadProgress, say } from './download-progress.js';
import { formatBytes } from './format.js';
import { abortedByPerson } from './interrupt.js';

interface PullOptions {
  out?: string;
  revision: string;
}

/** Arguments, options and action of `heddle pull`. */
export function configure(command: Command): void {
  command
    .argument(
      '<owner/name>',
      "the model, as the hub's page names it, or the page's address; owner/name:Q4_K_M takes a GGUF file",
    )
    .option('-o, --out <folder>', 'where the model goes (default: models/<owner>/<name>)')
    .option('--revision <name>', 'a branch, a tag or a commit', 'main')
    .action(run);
}

async function run(model: string, options: PullOptions): Promise<void> {
  const hub = hubFromEnvironment();
  const { repo, format } = partsOf(model, hub.endpoint);
  const folder = options.out ?? join('models', ...repo.split('/')) + (format ? `-${format}` : '');
  const signal = abortedByPerson();
  const progress = new DownloadProgress();
  try {
    const { files, bytes, downloaded } = await pull({
      repo,
      ...(format !== undefined && { format }),
      revision: options.revision,
      folder,
      hub,
      signal,
      onEvent: (event) => show(progress, event, { repo, revision: options.revision, folder }),
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
    if (!signal.aborted) throw error;
    say('interrupted: what was downloaded is kept. Go on with the same command.');
    process.exitCode = 130;
  }
}

/** The name of a model and the form of its weights, of which either the name or the address of its page is given. */
function partsOf(given: string, endpoint: string): { repo: string; format?: string } {
  const page = `${endpoint}/`;
  const named = given.startsWith(page) ? given.slice(page.length).replace(/\/$/, '') : given;
  // The colon of an address has a slash behind it.
  const [, repo = named, format] = /^(.+):([^:/]+)$/.exec(named) ?? [];
  return { repo, ...(format !== undefined && { format }) };
}

function show(progress: DownloadProgress, event: PullEvent, { repo, revision, folder }: Shown): void {
  if (event.event === 'changed') {
    progress.tell(`${repo} has changed meanwhile: looking again at what it has`);
  } else if (event.event !== 'plan') {
    progress.show(event);
  } else {
    const { files, bytes, missingFiles, missingBytes, replaced, hasTokenizer } = event;
    progress.tell(`${repo} (${revision}): ${files} files, ${formatBytes(bytes)}, into ${folder}`);
    if (missingFiles > 0 && missingBytes < bytes) {
      progress.tell(
        `of these ${formatBytes(bytes - missingBytes)} are there already: ${formatBytes(missingBytes)} to download`,
      );
    }
    if (replaced.length > 0) progress.tell(`replacing what is not as the hub has it: ${replaced.join(', ')}`);
    if (!hasTokenizer) progress.tell('it has no tokenizer.json: the model will know token ids, and no text');
  }
}

interface Shown {
  readonly repo: string;
  readonly revision: string;
  readonly folder: string;
}
