/**
 * `heddle chat`: a conversation in the terminal. A model with a chat template answers; any other continues each line. The state is kept between
 * turns, so that a turn reads only new tokens.
 */
import { createInterface } from 'node:readline/promises';
import { Readable } from 'node:stream';
import type { Command } from 'commander';
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import {
  ChatSession,
  END_OF_PARAGRAPH,
  type GeneratedPiece,
  type GenerateOptions,
  type LanguageModel,
  loadSnapshot,
  type Snapshot,
} from '../generate/index.js';
import { modelFolder, type SourceGiven } from '../models/index.js';
import { endOfTurnIds, readGenerationConfig } from '../text/index.js';
import { formatBytes, formatRate } from './format.js';
import {
  addGenerationOptions,
  type GenerationFlags,
  generationOptions,
  stateOption,
} from './generation-options.js';
import { loadAsAsked, MODEL_HELP } from './loading-options.js';
import { sourceOf } from './source-of.js';
import { standardInput } from './standard-input.js';
import { beyondTraining } from './trained-length.js';

interface ChatFlags extends GenerationFlags {
  system?: string;
  state?: string;
  source?: string;
}

type ChatOptions = GenerateOptions & { seed: number; maxTokens: number };

/** The interface of the two kinds of conversations. */
interface Partner {
  /** A verb for the prompt: what it does with a line. */
  readonly manner: string;
  /** The number of answered lines. */
  readonly turns: number;
  /** Whether a line can be answered. */
  takes(line: string): boolean;
  answer(line: string, options: GenerateOptions): AsyncGenerator<GeneratedPiece, unknown>;
  /** Replaces a line (counted from 0), or answers it again; everything after it is dropped. */
  answerAgain(
    turn: number,
    line: string | undefined,
    options: GenerateOptions,
  ): AsyncGenerator<GeneratedPiece, unknown>;
  /** Tokens that the last answer took, and the bytes of the state. */
  cost(): { reused: number; read: number; written: number; bytes: number };
  reset(): void;
  /** Starts over with a source. */
  show?(source: SourceGiven): Promise<void>;
  dispose(): void;
}

/** Arguments, options and action of `heddle chat`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .option('--system <text>', 'tell the model first how to answer')
    .option('--source <text or file>', 'what a model that was trained on pairs reads first, such as an image')
    .addOption(stateOption());
  addGenerationOptions(command).action((folder: string, flags: ChatFlags) => run(folder, flags));
}

async function run(folder: string, flags: ChatFlags): Promise<void> {
  const options: ChatOptions = generationOptions(flags, await readGenerationConfig(modelFolder(folder)));
  const model = await loadAsAsked(folder, flags);
  const source = await sourceOf(model.model, flags);
  const after = flags.state === undefined ? undefined : await loadSnapshot(flags.state, model);
  const partner = await partnerFor(folder, model, { system: flags.system, after });
  if (source !== undefined) await partner.show!(source);
  if (after) say(`(after the ${after.length.toLocaleString('en')} tokens of ${flags.state})`);
  say(
    `${folder}: ${model.model.pattern}, seed ${options.seed}. ${partner.manner} Ctrl-C ends a turn, Ctrl-D the chat; /help tells what else there is.`,
  );
  const input = process.stdin.isTTY === true ? process.stdin : Readable.from(standardInput());
  const terminal = createInterface({ input, output: process.stderr, prompt: '> ' });
  let failure: Error | undefined;
  input.on('error', (error) => {
    failure = error;
    terminal.close();
  });
  let interrupt = new AbortController();
  terminal.on('SIGINT', () => interrupt.abort());
  terminal.prompt();
  for await (const line of terminal) {
    interrupt = new AbortController();
    options.signal = interrupt.signal;
    const shown = /^\/source\s+(.+?)\s*$/.exec(line)?.[1];
    if (shown !== undefined && partner.show) await showTo(partner, model, shown);
    else {
      const reply = replyTo(line, partner, options);
      if (reply) await turn(model, partner, reply, options);
    }
    terminal.prompt();
  }
  partner.dispose();
  await model.dispose();
  if (failure) throw failure;
}

const COMMANDS: readonly (readonly [string, string])[] = [
  ['/help', 'these lines'],
  ['/regenerate', 'another answer in the place of the last one'],
  ['/edit <n> <text>', 'say something else in turn n, counted from 1; what came after is forgotten'],
  ['/reset', 'begin anew'],
];
const SOURCE_COMMAND = ['/source <text or file>', 'begin anew behind another source'] as const;

/** Starts over with another source; a source that cannot be read changes nothing. */
async function showTo(partner: Partner, { model }: LanguageModel, given: string): Promise<void> {
  try {
    await partner.show!((await sourceOf(model, { source: given }))!);
    say(`(begun anew behind ${given})`);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    say(`heddle: ${error.message}`);
    process.exitCode = 1;
  }
}

/** The stream for a line, if there is one: a new answer, or a replacement of an earlier one. */
function replyTo(
  line: string,
  partner: Partner,
  options: ChatOptions,
): AsyncGenerator<GeneratedPiece, unknown> | undefined {
  const [, command, rest = ''] = /^(\/[a-z][a-z-]*)(?:\s+(.*?))?\s*$/i.exec(line) ?? [];
  if (command === undefined) return partner.takes(line) ? partner.answer(line, options) : undefined;
  const edit = /^(\d+)\s+(.+)$/.exec(rest);
  if (command === '/regenerate' && partner.turns > 0) {
    // The same seed would generate the same answer.
    options.seed++;
    return partner.answerAgain(partner.turns - 1, undefined, options);
  }
  if (command === '/edit' && edit && Number(edit[1]) >= 1 && Number(edit[1]) <= partner.turns) {
    return partner.answerAgain(Number(edit[1]) - 1, edit[2], options);
  }
  if (command === '/reset') {
    partner.reset();
    say('(begun anew)');
  } else {
    const commands = partner.show ? [...COMMANDS, SOURCE_COMMAND] : COMMANDS;
    if (command !== '/help') say(refusalOf(command, commands, partner.turns));
    say(`Turns so far: ${partner.turns}. Commands:`);
    for (const [name, what] of commands) say(`  ${name.padEnd(24)}${what}`);
  }
  return undefined;
}

/** Why a command does nothing. */
function refusalOf(command: string, commands: readonly (readonly [string, string])[], turns: number): string {
  const known = commands.find(([name]) => name.split(' ')[0] === command)?.[0];
  if (known === undefined)
    return `heddle: there is no command ${command}: a text that begins like one is said with a space before it`;
  if (command === '/regenerate') return 'heddle: there is no answer yet: say something first';
  return `heddle: expected ${known}${command === '/edit' && turns > 0 ? `, with n from 1 to ${turns}` : ''}`;
}

async function turn(
  model: LanguageModel,
  partner: Partner,
  reply: AsyncGenerator<GeneratedPiece, unknown>,
  { maxTokens, signal }: ChatOptions,
): Promise<void> {
  let began: number | undefined;
  try {
    for await (const piece of reply) {
      began ??= performance.now();
      process.stdout.write(piece.text);
    }
  } catch (error) {
    if (!(signal?.aborted && error === signal.reason)) {
      // An error of this line need not affect the next one.
      if (!(error instanceof DataError || error instanceof TokenizerError)) throw error;
      say(`heddle: ${error.message}`);
      process.exitCode = 1;
      return;
    }
    if (began === undefined) {
      say('(interrupted)');
      return;
    }
  }
  process.stdout.write('\n');
  const { reused, read, written, bytes } = partner.cost();
  const rate = began === undefined ? '' : ` at ${formatRate((written / (performance.now() - began)) * 1000)}`;
  const cut = written === maxTokens ? ', as many as --max-tokens allows' : '';
  say(
    `(reused ${reused.toLocaleString('en')} tokens, read ${read.toLocaleString('en')} new ones, wrote ${written.toLocaleString('en')} ${written === 1 ? 'token' : 'tokens'}${rate}${cut}, state ${formatBytes(bytes)}${beyondTraining(model, reused + read + written)})`,
  );
}

async function partnerFor(
  folder: string,
  model: LanguageModel,
  { system, after }: { system: string | undefined; after: Snapshot | undefined },
): Promise<Partner> {
  const context = { ...(system !== undefined && { system }), ...(after && { after }) };
  const readsSource = model.model.source !== undefined;
  const chat = await ChatSession.open(model, folder, { ...context, lines: readsSource });
  if (chat) return answering(chat, readsSource);
  if (system !== undefined) {
    throw new ConfigError(
      `${folder} has no chat template, so its model knows no --system: leave it out, or write it as the first line`,
    );
  }
  return continuing(model, await endOfTurnIds(folder, model.tokenizer), after);
}

/** A model with a chat template, or one that is asked about a source. */
function answering(chat: ChatSession, readsSource: boolean): Partner {
  return {
    manner: readsSource
      ? 'It answers about what it was shown; an empty line asks nothing.'
      : 'It answers you.',
    takes: (line) => readsSource || line.trim() !== '',
    ...(readsSource && { show: (source: SourceGiven) => chat.show(source) }),
    get turns() {
      return chat.turns;
    },
    answer: (line, options) => chat.say(line, options),
    answerAgain: (turn, line, options) =>
      line === undefined ? chat.regenerate(options) : chat.edit(turn, line, options),
    cost() {
      const { reusedTokens = 0, readTokens = 0, writtenTokens = 0 } = chat.turn ?? {};
      return { reused: reusedTokens, read: readTokens, written: writtenTokens, bytes: chat.bytes };
    },
    reset: () => chat.reset(),
    dispose: () => chat.dispose(),
  };
}

/** A model without one. */
function continuing(
  model: LanguageModel,
  stopTokens: readonly number[],
  after: Snapshot | undefined,
): Partner {
  const session = model.session();
  let begin: Snapshot | undefined = after;
  if (after) session.restore(after);
  /** The lines, with snapshots before them. */
  let said: { line: string; before: Snapshot }[] = [];
  let reused = 0;
  let prompted = 0;
  async function* answer(line: string, options: GenerateOptions): AsyncGenerator<GeneratedPiece, unknown> {
    const before = await session.snapshot();
    begin ??= before;
    reused = session.tokens.length;
    try {
      await session.read(reused === 0 ? line : `\n${line}`, { signal: options.signal });
    } catch (error) {
      session.restore(before);
      throw error;
    }
    prompted = session.tokens.length;
    said.push({ line, before });
    const stop = [...(options.stop ?? []), END_OF_PARAGRAPH];
    return yield* session.generate({ ...options, stop, stopTokens });
  }
  return {
    manner: 'It goes on from what you write, up to an empty line.',
    get turns() {
      return said.length;
    },
    takes: (line) => line !== '' || session.tokens.length > 0,
    answer,
    answerAgain(turn, line, options) {
      const { line: old, before } = said[turn]!;
      session.restore(before);
      said = said.slice(0, turn);
      return answer(line ?? old, options);
    },
    cost: () => ({
      reused,
      read: prompted - reused,
      written: session.tokens.length - prompted,
      bytes: session.bytes,
    }),
    reset() {
      if (begin) session.restore(begin);
      said = [];
    },
    dispose: () => session.dispose(),
  };
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
