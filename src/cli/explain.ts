/** `heddle explain`: traces a model while it reads a text, and attributes the tokens that it generates. */

import type { Command } from 'commander';
import { writeFileAtomic } from '../checkpoint/index.js';
import type { LanguageModel, Session } from '../generate/index.js';
import { encodeTrace, type Trace } from '../inspect/index.js';
import { modelFolder, modelName, type SourceGiven } from '../models/index.js';
import { expectWritable } from '../platform/node/writable.js';
import { asPairSource, ChatTemplate, PAIR_SEPARATOR } from '../text/index.js';
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
import { sourceOf } from './source-of.js';
import { readStandardInput } from './standard-input.js';

interface ExplainFlags extends LoadingFlags {
  text?: string;
  source?: string;
  write: number;
  layers?: number[];
  out?: string;
  json?: boolean;
}

/** The most bytes of matrices, which dominate the page's size, that browsers open comfortably. */
const PAGE_BYTES = 400e6;

/** Arguments, options and action of `heddle explain`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .option('-t, --text <text>', 'the text to read (default: what comes in on standard input)')
    .option('--source <text or file>', 'what a model that was trained on pairs reads before it')
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
  if (flags.out !== undefined) await expectWritable(flags.out);
  const model = await loadAsAsked(folder, flags);
  const source = await sourceOf(model.model, flags);
  const { read, ids } =
    source === undefined
      ? await continued(
          model,
          asPairSource(
            await ChatTemplate.load(modelFolder(folder), {}, model.adapter),
            await textToRead(flags),
          ),
          flags.write,
        )
      : await continuedAfter(model, source, flags.text ?? '', flags.write);
  const added = ids.slice(read).map((_, i) => read + i);
  const hasGradients = model.fingerprint.quantization === 'none';
  const trace = await model.trace(ids, {
    ...(source !== undefined && { source }),
    ...(flags.layers && { layers: flags.layers }),
    attribute: hasGradients ? added : [],
    matrices: flags.json === true || flags.out !== undefined,
    maxBytes: PAGE_BYTES,
  });
  await model.dispose();
  const name = modelName(folder);
  if (flags.json) process.stdout.write(`${JSON.stringify(encodeTrace(trace))}\n`);
  else process.stdout.write(`${explainSummary(name, trace, read)}\n`);
  if (!hasGradients && added.length > 0) {
    say('where its words come from is found through gradients, which quantized weights do not have');
  }
  if (flags.out !== undefined) await writePage(flags.out, name, trace);
  else if (!flags.json) say('next:  --out page.html makes a page of it, --json prints the numbers');
}

/** Removes the newline at the end of a file. */
async function textToRead({ text }: ExplainFlags): Promise<string> {
  return text ?? (await readStandardInput()).replace(/\n$/, '');
}

/** The tokens to trace: those of the prompt, then generated ones. */
interface Continued {
  readonly ids: readonly number[];
  readonly read: number;
}

async function continued(model: LanguageModel, text: string, count: number): Promise<Continued> {
  const session = model.session();
  const read = model.tokenizer.encodeFromStart(text);
  await session.read(read);
  return written(session, 0, count);
}

/** The same after a source, where the prompt may be empty: the beginning token is read with the source. */
async function continuedAfter(
  model: LanguageModel,
  source: SourceGiven,
  text: string,
  count: number,
): Promise<Continued> {
  const session = model.session();
  await session.readSource(source);
  const before = session.tokens.length - 1;
  if (text !== '') await session.read(`${text.replace(/\t$/, '')}${PAIR_SEPARATOR}`);
  return written(session, before, count);
}

async function written(session: Session, from: number, count: number): Promise<Continued> {
  const read = session.tokens.length - from;
  for await (const _ of session.generate({ maxTokens: count, temperature: 0 }));
  const ids = session.tokens.slice(from);
  session.dispose();
  return { ids, read };
}

async function writePage(path: string, name: string, trace: Trace): Promise<void> {
  const page = await explainPage(name, encodeTrace(trace));
  await writeFileAtomic(path, page);
  say(`${path}: ${formatBytes(Buffer.byteLength(page))}, to open in a browser`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
