/** `heddle generate`: continues a text. */
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { loadSnapshot } from '../generate/index.js';
import { modelFolder } from '../models/index.js';
import { PAIR_SEPARATOR, readGenerationConfig } from '../text/index.js';
import { formatBytes, formatRate } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  stateOption,
} from './generation-options.js';
import { loadAsAsked, MODEL_HELP } from './loading-options.js';
import { sourceOf } from './source-of.js';
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
  const given = flags.prompt ?? (waits ? await text(process.stdin) : '');
  // As in the training pairs.
  const prompt =
    source !== undefined && given !== '' ? `${given.replace(/\t$/, '')}${PAIR_SEPARATOR}` : given;
  if (prompt !== '' || session.tokens.length === 0) await session.read(prompt);
  const readTime = performance.now() - started;
  const read = session.tokens.length - before;
  const pieces = session.generate({ ...options, stopTokens });
  // Wrong options fail at the first piece, before anything is printed.
  let next = await pieces.next();
  process.stdout.write(prompt);
  for (; !next.done; next = await pieces.next()) process.stdout.write(next.value.text);
  process.stdout.write('\n');
  const written = session.tokens.length - before - read;
  const writeTime = performance.now() - started - readTime;
  process.stderr.write(
    `${read === 0 ? '' : `read ${read} ${read === 1 ? 'token' : 'tokens'} (${formatRate((read / readTime) * 1000)}), `}wrote ${written} (${formatRate((written / writeTime) * 1000)}), state ${formatBytes(session.bytes)}, seed ${options.seed}${beyondTraining(model, session.tokens.length)}\n`,
  );
  session.dispose();
  await model.dispose();
}
