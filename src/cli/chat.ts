/**
 * `heddle chat`: writing by turns in the terminal. The model goes on from each line; its state stays between turns, so
 * that a turn reads only what is new.
 */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { DataError } from '../errors.js';
import { loadModel } from '../generate/index.js';
import { formatBytes } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  threadsOf,
} from './generation-options.js';

export function addChatCommand(program: Command): void {
  const command = program
    .command('chat')
    .description('write with a model, turn by turn; its state is kept between turns')
    .argument('<model>', "a model's folder");
  addGenerationOptions(command).action((folder: string, flags: GenerationFlags) => run(folder, flags));
}

const END_OF_TURN = '\n\n';

async function run(folder: string, flags: GenerationFlags): Promise<void> {
  const model = await loadModel(folder, threadsOf(flags));
  const options = generationOptions(flags);
  process.stderr.write(
    `${folder}: ${model.config.pattern}. It goes on from what you write, up to an empty line. Ctrl-C ends a turn, Ctrl-D the chat.\n`,
  );
  const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' });
  const session = model.session();
  let interrupted = false;
  terminal.on('SIGINT', () => {
    interrupted = true;
  });
  terminal.prompt();
  for await (const line of terminal) {
    interrupted = false;
    const kept = session.tokens.length;
    try {
      await session.read(kept === 0 ? line : `\n${line}`);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      terminal.prompt();
      continue;
    }
    const read = session.tokens.length - kept;
    for await (const piece of session.generate({
      ...options,
      stop: [...(options.stop ?? []), END_OF_TURN],
    })) {
      process.stdout.write(piece.text);
      if (interrupted) break;
    }
    process.stdout.write('\n');
    process.stderr.write(
      `(kept ${kept} tokens, read ${read} new ones, state ${formatBytes(session.bytes)})\n`,
    );
    terminal.prompt();
  }
  session.dispose();
  await model.dispose();
}
