/** `heddle explain`: what a model does inside while it reads a text, and where the words that it adds come from. */

import { text as textOf } from 'node:stream/consumers';
import type { Command } from 'commander';
import { writeFileAtomic } from '../checkpoint/index.js';
import type { LanguageModel } from '../generate/index.js';
import { encodeTrace, type Trace } from '../inspect/index.js';
import { modelName } from '../models/index.js';
import { explainPage } from './explain-page.js';
import { explainSummary } from './explain-summary.js';
import { formatBytes } from './format.js';
import {
  addLoadingOptions,
  deviceOption,
  type LoadingFlags,
  loadAsAsked,
  MODEL_HELP,
} from './loading-options.js';
import { wholeNumber } from './options.js';

interface ExplainFlags extends LoadingFlags {
  text?: string;
  write: number;
  layers?: number[];
  out?: string;
  json?: boolean;
}

/** Matrices are the most of a page: more than this no browser likes to open. */
const PAGE_BYTES = 400e6;

export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .option('-t, --text <text>', 'the text to read (default: what comes in on standard input)')
    .option(
      '-w, --write <n>',
      'tokens that the model adds, the likeliest ones, whose sources are looked for',
      wholeNumber,
      4,
    )
    .option('--layers <numbers>', 'look into these layers alone, such as 0,8', numberList)
    .option('--out <file>', 'write a page that shows it all, to open in a browser')
    .option('--json', 'print the whole trace as JSON in the place of the summary');
  addLoadingOptions(command.addOption(deviceOption())).action(run);
}

function numberList(value: string): number[] {
  return value.split(',').map(wholeNumber);
}

async function run(folder: string, flags: ExplainFlags): Promise<void> {
  const model = await loadAsAsked(folder, flags);
  // The newline that ends a file is no part of its text.
  const text = flags.text ?? (await textOf(process.stdin)).replace(/\n$/, '');
  const read = model.tokenizer.encodeFromStart(text);
  const ids = await continued(model, read, flags.write);
  const added = ids.slice(read.length).map((_, i) => read.length + i);
  const hasGradients = model.fingerprint.quantization === 'none';
  const trace = await model.trace(ids, {
    ...(flags.layers && { layers: flags.layers }),
    attribute: hasGradients ? added : [],
    matrices: flags.json === true || flags.out !== undefined,
    maxBytes: PAGE_BYTES,
  });
  await model.dispose();
  const name = modelName(folder);
  if (flags.json) process.stdout.write(`${JSON.stringify(encodeTrace(trace))}\n`);
  else process.stdout.write(`${explainSummary(name, trace, read.length)}\n`);
  if (!hasGradients && added.length > 0) {
    say('where its words come from is found through gradients, which quantized weights do not have');
  }
  if (flags.out !== undefined) await writePage(flags.out, name, trace);
  else if (!flags.json) say('next:  --out page.html makes a page of it, --json prints the numbers');
}

/** The tokens, and those that the model adds. */
async function continued(model: LanguageModel, ids: readonly number[], count: number): Promise<number[]> {
  const session = model.session();
  await session.read(ids);
  for await (const _ of session.generate({ maxTokens: count, temperature: 0 }));
  const all = [...session.tokens];
  session.dispose();
  return all;
}

async function writePage(path: string, name: string, trace: Trace): Promise<void> {
  const page = await explainPage(name, encodeTrace(trace));
  await writeFileAtomic(path, page);
  say(`${path}: ${formatBytes(Buffer.byteLength(page))}, to open in a browser`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
