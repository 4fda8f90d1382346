/** `heddle generate`: continues a text. */
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { loadModel } from '../generate/index.js';
import { formatBytes, formatRate } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  loadOptions,
} from './generation-options.js';

interface GenerateFlags extends GenerationFlags {
  prompt?: string;
}

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('continue a text with a trained model')
    .argument('<model>', "a model's folder")
    .option('-p, --prompt <text>', 'the text to continue (default: what comes in on standard input)');
  addGenerationOptions(command).action((folder: string, flags: GenerateFlags) => run(folder, flags));
}

async function run(folder: string, flags: GenerateFlags): Promise<void> {
  const options = generationOptions(flags);
  const model = await loadModel(folder, loadOptions(flags));
  const prompt = flags.prompt ?? (await text(process.stdin));
  const session = model.session();
  const started = performance.now();
  await session.read(prompt);
  const readTime = performance.now() - started;
  const read = session.tokens.length;
  process.stdout.write(prompt);
  for await (const piece of session.generate(options)) process.stdout.write(piece.text);
  process.stdout.write('\n');
  const written = session.tokens.length - read;
  const writeTime = performance.now() - started - readTime;
  process.stderr.write(
    `read ${read} tokens (${formatRate((read / readTime) * 1000)}), wrote ${written} (${formatRate((written / writeTime) * 1000)}), state ${formatBytes(session.bytes)}, seed ${options.seed}\n`,
  );
  session.dispose();
  await model.dispose();
}
