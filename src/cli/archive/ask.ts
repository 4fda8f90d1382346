/** `heddle archive ask`: a question, answered from what was read, with pages. */
import { type Command, Option } from 'commander';
import {
  ask,
  type Citation,
  type DocumentEntry,
  type Hit,
  SOURCES,
  type Source,
} from '../../archive/index.js';
import { positive } from '../../bench/positive.js';
import { visible } from '../../checkpoint/index.js';
import { SHIPPED_MODEL } from '../../models/index.js';
import { abortedByPerson } from '../interrupt.js';
import { addLoadingOptions, deviceOption, type LoadingFlags, MODEL_HELP } from '../loading-options.js';
import { each, wholeNumber } from '../options.js';
import { withAskedModel } from './asked-model.js';
import { type ArchiveFlags, addArchiveOptions, say, withArchive } from './options.js';
import { shownHit } from './search.js';

interface AskFlags extends ArchiveFlags, LoadingFlags {
  model: string;
  in?: string[];
  from: Source;
  passages: number;
  maxTokens: number;
}

/** Arguments, options and action of `heddle archive ask`. */
export function configureAsk(command: Command): void {
  command
    .description('answer a question from the documents, and name the pages')
    .argument('<question>')
    .option('--model <model>', MODEL_HELP, SHIPPED_MODEL)
    .option('--in <document>', 'only from this document (may be given several times)', each)
    .addOption(
      new Option(
        '--from <source>',
        'from passages that search finds; from the state of a document that the model has read (archive work --model); from both; or from the documents of --in, as many as fit as a whole',
      )
        .choices(SOURCES)
        .default('passages'),
    )
    .option('--passages <n>', 'passages that are looked at', positive, 8)
    .option('--max-tokens <n>', 'write at most this many tokens', wholeNumber, 512)
    .addOption(deviceOption());
  addArchiveOptions(addLoadingOptions(command)).action((question: string, flags: AskFlags) =>
    run(question, flags),
  );
}

async function run(question: string, flags: AskFlags): Promise<void> {
  const signal = abortedByPerson();
  await withArchive(flags, { signal }, async (archive) => {
    const documents = flags.in && (await Promise.all(flags.in.map((name) => archive.document(name))));
    await withAskedModel(archive, flags.model, flags, signal, async (model) => {
      const events = ask(archive, model, {
        text: question,
        ...(documents && { documents }),
        from: flags.from,
        passages: flags.passages,
        maxTokens: flags.maxTokens,
        signal,
      });
      for await (const event of events) {
        if (event.kind === 'text') process.stdout.write(event.text);
        else if (event.kind === 'notice') say(event.text);
        else if (event.kind === 'sources') {
          const whole = event.whole ?? [];
          for (const document of whole) process.stdout.write(`${shownWhole(document, event.hits)}\n`);
          for (const [i, hit] of event.hits.entries()) {
            if (whole.some(({ content }) => content === hit.content)) continue;
            process.stdout.write(`${shownHit(i + 1, hit)}\n`);
          }
          if (event.state) say(`from the state of ${event.state.paths[0] ?? event.state.name}`);
          if (event.missing.length > 0) say(`not in the archive: ${event.missing.join(', ')}`);
        } else {
          process.stdout.write('\n');
          tell(event.citations, event.unknown);
        }
      }
    });
  });
}

/** A document that the model is given whole, with the numbers of its passages. */
function shownWhole({ content, name, paths }: DocumentEntry, hits: readonly Hit[]): string {
  const first = hits.findIndex((hit) => hit.content === content) + 1;
  const last = first + hits.filter((hit) => hit.content === content).length - 1;
  return visible(`[${first}] to [${last}] ${paths[0] ?? name}, as a whole`);
}

function tell(citations: readonly Citation[], unknown: readonly string[]): void {
  for (const { mark, path, page, supported } of citations) {
    const doubt = supported ? '' : '  (its words are not those of the statement: look at it)';
    process.stdout.write(`${visible(`${mark} ${path}, page ${page}${doubt}`)}\n`);
  }
  if (unknown.length > 0) say(`cited, but not among what it was given: ${unknown.join(' ')}`);
}
