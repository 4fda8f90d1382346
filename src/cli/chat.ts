/**
 * `heddle chat`: a conversation in the terminal. A model with a chat template answers; any other goes on from each line.
 * The state stays between turns, so that a turn reads only what is new.
 */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import {
  ChatSession,
  type GeneratedPiece,
  type GenerateOptions,
  type LanguageModel,
  loadModel,
  loadSnapshot,
  type Session,
  type Snapshot,
} from '../generate/index.js';
import { endOfTurnIds, readGenerationConfig } from '../text/index.js';
import { formatBytes, formatRate } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  loadOptions,
  stateOption,
} from './generation-options.js';

interface ChatFlags extends GenerationFlags {
  system?: string;
  state?: string;
}

/** Who answers. */
interface Partner {
  /** What it does with a line. */
  readonly manner: string;
  /** Whether a line is something to answer. */
  takes(line: string): boolean;
  answer(line: string): AsyncGenerator<GeneratedPiece, unknown>;
  /** Tokens that the last answer took, and the bytes of the state. */
  cost(): { reused: number; read: number; written: number; bytes: number };
  reset(): void;
  dispose(): void;
}

export function addChatCommand(program: Command): void {
  const command = program
    .command('chat')
    .description(
      "talk with a model, turn by turn; its state is kept between turns, and its generation_config.json says how it samples where you don't",
    )
    .argument('<model>', "a model's folder")
    .option('--system <text>', 'tell the model first how to answer')
    .addOption(stateOption());
  addGenerationOptions(command).action((folder: string, flags: ChatFlags) => run(folder, flags));
}

async function run(folder: string, flags: ChatFlags): Promise<void> {
  const options = generationOptions(flags, await readGenerationConfig(folder));
  const model = await loadModel(folder, loadOptions(flags));
  const after = flags.state === undefined ? undefined : await loadSnapshot(flags.state, model);
  const partner = await partnerFor(folder, model, options, { system: flags.system, after });
  if (after) say(`(after the ${after.length.toLocaleString('en')} tokens of ${flags.state})`);
  say(
    `${folder}: ${model.model.pattern}, seed ${options.seed}. ${partner.manner} Ctrl-C ends a turn, Ctrl-D the chat; /reset begins anew.`,
  );
  const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' });
  let interrupted = false;
  terminal.on('SIGINT', () => {
    interrupted = true;
  });
  terminal.prompt();
  for await (const line of terminal) {
    interrupted = false;
    if (line.trim() === '/reset') {
      partner.reset();
      say('(begun anew)');
    } else if (partner.takes(line)) {
      await turn(partner, line, options, () => interrupted);
    }
    terminal.prompt();
  }
  partner.dispose();
  await model.dispose();
}

async function turn(
  partner: Partner,
  line: string,
  { maxTokens }: { maxTokens: number },
  interrupted: () => boolean,
): Promise<void> {
  let began: number | undefined;
  try {
    for await (const piece of partner.answer(line)) {
      began ??= performance.now();
      process.stdout.write(piece.text);
      if (interrupted()) break;
    }
  } catch (error) {
    // What is wrong with this line need not be wrong with the next one.
    if (!(error instanceof DataError || error instanceof TokenizerError)) throw error;
    say(`heddle: ${error.message}`);
    process.exitCode = 1;
    return;
  }
  process.stdout.write('\n');
  const { reused, read, written, bytes } = partner.cost();
  const rate = began === undefined ? '' : ` at ${formatRate((written / (performance.now() - began)) * 1000)}`;
  const cut = written === maxTokens ? ', as many as --max-tokens allows' : '';
  say(
    `(reused ${reused.toLocaleString('en')} tokens, read ${read.toLocaleString('en')} new ones, wrote ${written}${rate}${cut}, state ${formatBytes(bytes)})`,
  );
}

async function partnerFor(
  folder: string,
  model: LanguageModel,
  options: GenerateOptions,
  { system, after }: { system: string | undefined; after: Snapshot | undefined },
): Promise<Partner> {
  const context = { ...(system !== undefined && { system }), ...(after && { after }) };
  const chat = await ChatSession.open(model, folder, context);
  if (chat) return answering(chat, options);
  if (system !== undefined) {
    throw new ConfigError(
      `${folder} has no chat template, so its model knows no --system: leave it out, or write it as the first line`,
    );
  }
  return continuing(model, { ...options, stopTokens: await endOfTurnIds(folder, model.tokenizer) }, after);
}

/** A model with a chat template. */
function answering(chat: ChatSession, options: GenerateOptions): Partner {
  return {
    manner: 'It answers you.',
    takes: (line) => line.trim() !== '',
    answer: (line) => chat.say(line, options),
    cost() {
      const { reusedTokens = 0, readTokens = 0, writtenTokens = 0 } = chat.turn ?? {};
      return { reused: reusedTokens, read: readTokens, written: writtenTokens, bytes: chat.bytes };
    },
    reset: () => chat.reset(),
    dispose: () => chat.dispose(),
  };
}

const END_OF_TURN = '\n\n';

/** A model without one. */
function continuing(model: LanguageModel, options: GenerateOptions, after: Snapshot | undefined): Partner {
  const settings = { ...options, stop: [...(options.stop ?? []), END_OF_TURN] };
  const begin = (): Session => {
    const session = model.session();
    if (after) session.restore(after);
    return session;
  };
  let session = begin();
  let reused = 0;
  let prompted = 0;
  return {
    manner: 'It goes on from what you write, up to an empty line.',
    takes: (line) => line !== '' || session.tokens.length > 0,
    async *answer(line) {
      reused = session.tokens.length;
      await session.read(reused === 0 ? line : `\n${line}`);
      prompted = session.tokens.length;
      yield* session.generate(settings);
    },
    cost: () => ({
      reused,
      read: prompted - reused,
      written: session.tokens.length - prompted,
      bytes: session.bytes,
    }),
    reset() {
      session.dispose();
      session = begin();
    },
    dispose: () => session.dispose(),
  };
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
