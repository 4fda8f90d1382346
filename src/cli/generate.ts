/** `heddle generate`: continues a text. */
import type { Command } from 'commander';
import { type LanguageModel, loadSnapshot } from '../generate/index.js';
import { modelFolder, type SourceGiven, sourceConfigOf, sourcePlaces } from '../models/index.js';
import { asPairSource, ChatTemplate, PAIR_SEPARATOR, readGenerationConfig } from '../text/index.js';
import { formatBytes, formatRate } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  stateOption,
} from './generation-options.js';
import { loadAsAsked, MODEL_HELP } from './loading-options.js';
import { sourceOf } from './source-of.js';
import { readStandardInput } from './standard-input.js';
import { beyondTraining } from './trained-length.js';

interface GenerateFlags extends GenerationFlags {
  source?: string;
  prompt?: string;
  state?: string;
}

/** Arguments, options and action of `heddle generate`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .option('-p, --prompt <text>', 'the text to continue (default: what comes in on standard input)')
    .option('--source <text or file>', 'what a model that was trained on pairs reads before it writes')
    .addOption(stateOption());
  addGenerationOptions(command).action((folder: string, flags: GenerateFlags) => run(folder, flags));
}

/** The prompt as in the training pairs, if the model was trained on such. */
async function promptOf(
  given: string,
  folder: string,
  {
    source,
    state,
    adapter,
  }: { source: SourceGiven | undefined; state?: string; adapter: string | undefined },
): Promise<string> {
  if (source !== undefined && given !== '') return `${given.replace(/\t$/, '')}${PAIR_SEPARATOR}`;
  // After a state the text goes on from what was read.
  if (state !== undefined) return given;
  return asPairSource(await ChatTemplate.load(modelFolder(folder), {}, adapter), given);
}

/** What was read, before what was written; empty where nothing was. */
function readingOf(
  { model, tokenizer }: LanguageModel,
  { source, read, seconds }: { source: SourceGiven | undefined; read: number; seconds: number },
): string {
  if (source === undefined)
    return read === 0 ? '' : `read ${counted(read, 'tokens')} (${formatRate(read / seconds)}), `;
  const { kind, unit } = model.source!.modality;
  const places = sourcePlaces(sourceConfigOf(model), source, tokenizer).length;
  const amount = counted(Math.round(places * unit.perPosition * 100) / 100, unit.name);
  // The token that begins the text is read with the source.
  const prompt = read > 1 ? ` and ${counted(read - 1, 'tokens')} of a prompt` : '';
  return `read ${kind === 'texts' ? 'a source' : kind === 'images' ? 'an image' : 'a sound'} of ${amount}${prompt} in ${seconds.toFixed(2)} s, `;
}

/** `1 token`, `1,000 tokens`. */
function counted(n: number, units: string): string {
  return `${n.toLocaleString('en')} ${n === 1 ? units.replace(/(?<=ch)es$|s$/, '') : units}`;
}

async function run(folder: string, flags: GenerateFlags): Promise<void> {
  const { eosTokenIds: stopTokens, ...recommended } = await readGenerationConfig(modelFolder(folder));
  const options = generationOptions(flags, recommended);
  const model = await loadAsAsked(folder, flags);
  const session = model.session();
  if (flags.state !== undefined) session.restore(await loadSnapshot(flags.state, model));
  const before = session.tokens.length;
  const started = performance.now();
  const source = await sourceOf(model.model, flags);
  if (source !== undefined) await session.readSource(source);
  // After a source or a state the prompt is optional, so standard input is not read from a terminal.
  const waits = source === undefined && (flags.state === undefined || process.stdin.isTTY !== true);
  const given = flags.prompt ?? (waits ? await readStandardInput() : '');
  const prompt = await promptOf(given, folder, { ...flags, source, adapter: model.adapter });
  if (prompt !== '' || session.tokens.length === 0) await session.read(prompt);
  const readTime = performance.now() - started;
  const read = session.tokens.length - before;
  const readLine = readingOf(model, { source, read, seconds: readTime / 1000 });
  const pieces = session.generate({ ...options, stopTokens });
  // Wrong options fail at the first piece, before anything is printed.
  let next = await pieces.next();
  process.stdout.write(prompt);
  for (; !next.done; next = await pieces.next()) process.stdout.write(next.value.text);
  process.stdout.write('\n');
  const written = session.tokens.length - before - read;
  const writeTime = performance.now() - started - readTime;
  const wrote =
    written === 0
      ? `wrote nothing, since ${options.maxTokens === 0 ? '--max-tokens is 0' : 'the model ended the text at once'}`
      : `wrote ${counted(written, 'tokens')} (${formatRate((written / writeTime) * 1000)})`;
  process.stderr.write(
    `${readLine}${wrote}, state ${formatBytes(session.bytes)}, seed ${options.seed}${beyondTraining(model, session.tokens.length)}\n`,
  );
  session.dispose();
  await model.dispose();
}
