/** `heddle archive summary`: what a document says, part by part and then as a whole; its outline without a model. */
import type { Command } from 'commander';
import { summarize } from '../../archive/index.js';
import { visible } from '../../checkpoint/index.js';
import { abortedByPerson } from '../interrupt.js';
import { addLoadingOptions, deviceOption, type LoadingFlags, MODEL_HELP } from '../loading-options.js';
import { wholeNumber } from '../options.js';
import { withAskedModel } from './asked-model.js';
import { type ArchiveFlags, addArchiveOptions, say, withArchive } from './options.js';
import { ProgressLine } from './progress.js';

interface SummaryFlags extends ArchiveFlags, LoadingFlags {
  model?: string;
  maxTokens: number;
}

/** Arguments, options and action of `heddle archive summary`. */
export function configureSummary(command: Command): void {
  command
    .description('summarise a document with a model; without one, its headings with their pages')
    .argument('<document>', 'its path or the end of it, its name, or digits of its content')
    .option('--model <model>', MODEL_HELP)
    .option('--max-tokens <n>', 'of each summary', wholeNumber, 400)
    .addOption(deviceOption());
  addArchiveOptions(addLoadingOptions(command)).action((document: string, flags: SummaryFlags) =>
    run(document, flags),
  );
}

async function run(name: string, flags: SummaryFlags): Promise<void> {
  const signal = abortedByPerson();
  await withArchive(flags, { signal }, async (archive) => {
    const document = await archive.document(name);
    if (flags.model === undefined) {
      const headings = await archive.outline(document.content);
      for (const { page, heading } of headings)
        process.stdout.write(`${visible(`${String(page).padStart(6)}  ${heading}`)}\n`);
      say(`the outline of ${document.name}; --model has it summarised`);
      return;
    }
    const line = new ProgressLine();
    await withAskedModel(archive, flags.model, flags, signal, async (model) => {
      try {
        for await (const event of summarize(archive, model, document, {
          maxTokens: flags.maxTokens,
          signal,
        })) {
          if (event.kind === 'text') {
            line.clear();
            process.stdout.write(event.text);
          } else line.show(() => `summarising, level ${event.level}: ${event.done} of ${event.of} parts`);
        }
        process.stdout.write('\n');
      } finally {
        line.clear();
      }
    });
  });
}
