/**
 * A conversation with a model, in the format of its chat template.
 *
 * Each turn renders and tokenizes the whole conversation, and the state is always that of exactly these tokens, as in a new session that
 * reads them all; but only the tokens that the state has not read yet are read. Usually the state's tokens are a prefix of the new ones.
 * They are not if the template renders an earlier answer differently from what the model wrote (for example without its thoughts), or if
 * the text of an answer is tokenized differently than the model generated it. For that case a snapshot from the beginning of the answer is
 * kept, before the generation prompt, since that may change too; at most the last answer is then read again. Snapshots of earlier turns
 * are in a cache, within its budget, for when an earlier turn is edited.
 */

import { modelFolder } from '#locate';
import { expectList, expectObject, expectOptions, expectText } from '../arguments.js';
import { DataError } from '../errors.js';
import type { SourceGiven } from '../models/index.js';
import {
  type AnswerPart,
  AnswerReader,
  type ChatMessage,
  type ChatRenderOptions,
  ChatTemplate,
  endOfTurnIds,
  expectMessages,
  type JoinedAnswer,
  joinedParts,
  messageOf,
} from '../text/index.js';
import { ConversationFormat, type MessageFormat, type ReadableConversation } from './conversation.js';
import {
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type StopReason,
} from './generation.js';
import { Constraint, type Node, schemaNode, withThought } from './grammar/index.js';
import type { LanguageModel } from './language-model.js';
import { END_OF_PARAGRAPH, LineFormat } from './line-format.js';
import { PrefixMemory, type PrefixStore } from './prefix-memory.js';
import { readPrompt } from './prompt.js';
import type { Session } from './session.js';
import { sharedLength } from './shared-length.js';
import type { Snapshot } from './snapshot.js';

/** The template's inputs in every turn, the end of answers, and where states are kept. */
export interface ChatOptions extends Omit<ChatRenderOptions, 'addGenerationPrompt'> {
  /** The system message. */
  system?: string;
  /** Tokens that end an answer, in addition to the end-of-text tokens of the model and its tokenizer. */
  stopTokens?: readonly number[];
  /** A snapshot that the conversation continues from: its tokens come before the first message. */
  after?: Snapshot;
  /** The prefix cache, which conversations may share; by default each has its own, of at most 512 MB. */
  cache?: PrefixStore;
  /**
   * Optimizes for one answer: no snapshot is kept before it, and the prompt is read in one piece, which is faster. More turns can follow;
   * they read the prompt of that answer again.
   */
  once?: boolean;
}

/** Options of `ChatSession.open`. */
export interface ChatOpenOptions extends ChatOptions {
  /** A model without a chat template continues the conversation as plain lines, up to an empty line. */
  lines?: boolean;
}

const OWN_CACHE_BYTES = 512e6;

/** A piece of an answer: the text that the model generated, and the parts of thoughts, content and tool calls that it completes. */
export interface ChatPiece extends GeneratedPiece {
  readonly parts: readonly AnswerPart[];
}

/** The result of a tool call. */
export interface ToolResult {
  /** The id of the call. */
  readonly id: string;
  readonly content: string;
}

/** An answer, and its costs. */
export interface ChatTurn extends JoinedAnswer {
  /** The answer as the model generated it; `content`, `thought` and `calls` are its parsed parts. */
  readonly text: string;
  /** Tokens of the prompt that were reused from the state or the cache. */
  readonly reusedTokens: number;
  /** Tokens of the prompt that were read for this turn. */
  readonly readTokens: number;
  readonly writtenTokens: number;
  /** 'interrupt' if the caller stopped iterating or aborted. */
  readonly stoppedBy: StopReason | 'interrupt';
}

/** How the prompt begins the answer. */
type AnswerBeginning = Pick<ReadableConversation, 'generationPrompt' | 'thinking'>;

function expectModel(model: LanguageModel): void {
  expectObject(model, 'the model is', 'what loadModel returned');
}

/** A conversation with a model, turn by turn. Its state is kept, so that a turn reads only new tokens. */
export class ChatSession {
  readonly #context: Omit<ChatRenderOptions, 'addGenerationPrompt'>;
  readonly #stopTokens: readonly number[];
  readonly #beginning: readonly ChatMessage[];
  #messages: readonly ChatMessage[];
  /** The state at the end of the conversation. */
  #state: Session;
  /** The state at the beginning of the last answer. */
  #mark: Snapshot | undefined;
  #cache: PrefixStore;
  #after: Snapshot | undefined;
  /** The state after the source that was shown, which then is `#after`. */
  #shown: Snapshot | undefined;
  readonly #once: boolean;
  #turn: ChatTurn | undefined;
  #format: MessageFormat | undefined;
  #busy = false;

  /** Without a template the model continues plain lines. */
  constructor(
    private readonly model: LanguageModel,
    readonly template: ChatTemplate | undefined,
    options: ChatOptions = {},
  ) {
    expectModel(model);
    expectOptions(options);
    const { system, stopTokens = [], after, cache, once = false, ...context } = options;
    this.#context = context;
    this.#after = after;
    this.#once = once;
    this.#cache = cache ?? new PrefixMemory(model, OWN_CACHE_BYTES);
    this.#stopTokens = stopTokens;
    this.#beginning = system === undefined ? [] : [{ role: 'system', content: system }];
    this.#messages = this.#beginning;
    this.#state = model.session({ cache: this.#cache });
    if (after) this.#state.restore(after);
  }

  /**
   * A conversation with the template and the end-of-turn tokens of the model's folder (or whatever `loadModel` takes); the template of an adapter
   * comes first. Undefined if there is no template, unless `lines` is set. Throws `TokenizerError`, with the file's path, for a file that is damaged.
   */
  static async open(
    model: LanguageModel,
    name: string,
    given: ChatOpenOptions = {},
  ): Promise<ChatSession | undefined> {
    expectModel(model);
    expectOptions(given);
    const { lines = false, ...options } = given;
    const folder = modelFolder(name);
    const template = await ChatTemplate.load(folder, {}, model.adapter);
    if (!template && !lines) return undefined;
    const ends = await endOfTurnIds(folder, model.tokenizer);
    return new ChatSession(model, template, {
      ...options,
      stopTokens: [...ends, ...(options.stopTokens ?? [])],
    });
  }

  /** The conversation so far. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** The last answer and its costs; undefined before there was one. */
  get turn(): ChatTurn | undefined {
    return this.#turn;
  }

  /** All tokens of the conversation that the state has read or generated. */
  get tokens(): readonly number[] {
    return this.#state.tokens;
  }

  /** Bytes of the state at the end of the conversation, including memory that it shares with snapshots. */
  get bytes(): number {
    return this.#state.bytes;
  }

  /**
   * Sends a user message and streams the answer; afterwards `turn` has its costs. A caller that stops iterating, or aborts the signal,
   * interrupts it: the text so far remains as the answer. If it fails, or is aborted before the answer begins, the conversation is unchanged.
   * Throws the signal's reason after an abort, `TokenizerError` if the template is broken or refuses the conversation, `ConfigError` for an
   * option outside its range, and `DataError` while the last answer is being generated.
   */
  say(text: string, options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      expectText(text, 'the message is');
      return [...this.#messages, { role: 'user', content: text }];
    }, options);
  }

  /**
   * Replaces the conversation by these messages and streams the answer, as `say` does. Tokens that were read before, here or by other
   * conversations with the same cache, are not read again.
   */
  answer(messages: readonly ChatMessage[], options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      expectMessages(messages);
      return messages;
    }, options);
  }

  /**
   * Sends the results of the tools that the last answer called, and streams the next answer, as `say` does. Throws `DataError` for a result
   * whose call is not in the last answer.
   */
  tell(results: readonly ToolResult[], options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      expectList(results, 'the results are', 'objects, each with an id and a content');
      const calls = this.#messages.at(-1)?.role === 'assistant' ? (this.#turn?.calls ?? []) : [];
      const told = results.map(({ id, content }) => {
        const call = calls.find((each) => each.id === id);
        if (!call)
          throw new DataError(`the last answer has no call with the id ${id}: its calls are in turn.calls`);
        return { role: 'tool', tool_call_id: id, name: call.name, content };
      });
      return [...this.#messages, ...told];
    }, options);
  }

  /** Replaces the last answer by another one, as `say` does. Throws `DataError` before there was one. */
  regenerate(options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      if (this.turns === 0) throw new DataError('there is no answer yet: say something first');
      return this.#messages.slice(0, -1);
    }, options);
  }

  /**
   * Replaces the user message of an earlier turn, counted from 0, drops everything after it, and streams the answer, as `say` does. Throws
   * `DataError` for a turn that does not exist.
   */
  edit(turn: number, text: string, options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      if (!(Number.isInteger(turn) && turn >= 0 && turn < this.turns)) {
        throw new DataError(`there is no turn ${turn}: the conversation has ${this.turns}, counted from 0`);
      }
      expectText(text, 'the message is');
      const said = [...this.#messages.keys()].filter((i) => this.#messages[i]!.role === 'user');
      return [...this.#messages.slice(0, said[turn]), { role: 'user', content: text }];
    }, options);
  }

  /** The tokens of messages, as this conversation would read them. Throws `TokenizerError` for messages that the template refuses. */
  async encode(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    expectMessages(messages);
    return (await (await this.#learned()).alone(messages, this.#context)).ids;
  }

  /** The state at the end of the conversation. */
  snapshot(): Promise<Snapshot> {
    return this.#state.snapshot();
  }

  /** The number of turns. */
  get turns(): number {
    return this.#messages.filter(({ role }) => role === 'user').length;
  }

  /** Replaces the conversation by these messages, and streams the answer. */
  async *#answer(
    prompt: () => readonly ChatMessage[],
    options: GenerateOptions,
  ): AsyncGenerator<ChatPiece, void> {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#busy = true;
    try {
      const messages = prompt();
      if (messages.length === 0) throw new DataError('the conversation has no messages: give one at least');
      expectOptions(options);
      const { schema, ...settings } = options;
      // Before anything is read, since not every schema can be enforced.
      const json = schema === undefined ? undefined : schemaNode(schema);
      const { reusedTokens, reader, prompt: beginning } = await this.#read(messages, options.signal);
      const readTokens = this.tokens.length - reusedTokens;
      const stopTokens = [...this.#stopTokens, ...(options.stopTokens ?? [])];
      const stop = [...(options.stop ?? []), ...(this.template ? [] : [END_OF_PARAGRAPH])];
      const steering = [...(options.steering ?? [])];
      if (json) {
        const constraint = await this.#constraint(json, beginning, stopTokens);
        constraint.expectRoom(options.maxTokens ?? GENERATE_DEFAULTS.maxTokens);
        steering.push(constraint);
      }
      const pieces = this.#state.generate({ ...settings, stopTokens, stop, steering });
      let answer = '';
      const parts: AnswerPart[] = [];
      const read = (piece: GeneratedPiece, said: readonly AnswerPart[]): ChatPiece => {
        answer += piece.text;
        parts.push(...said);
        return { ...piece, parts: said };
      };
      let writtenTokens = 0;
      let stoppedBy: ChatTurn['stoppedBy'] | 'failure' = 'interrupt';
      try {
        let next = await pieces.next();
        for (; !next.done; next = await pieces.next()) {
          if (next.value.id !== undefined) writtenTokens++;
          yield read(next.value, reader.push(next.value.text));
        }
        const rest = reader.end();
        if (rest.length > 0) yield read({ id: undefined, text: '' }, rest);
        stoppedBy = next.value;
      } catch (error) {
        const isAbort = options.signal?.aborted && error === options.signal.reason;
        if (!isAbort || writtenTokens === 0) stoppedBy = 'failure';
        throw error;
      } finally {
        // If the caller has stopped at the yield, the session still has to read the last token.
        await pieces.return('length');
        if (stoppedBy !== 'failure') {
          parts.push(...reader.end());
          const said = joinedParts(parts);
          this.#messages = [...messages, messageOf(said)];
          this.#turn = { text: answer, ...said, reusedTokens, readTokens, writtenTokens, stoppedBy };
        }
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Starts over, with the system message if there is one. Throws `DataError` while an answer is being generated. */
  reset(): void {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#messages = this.#beginning;
    this.#turn = undefined;
  }

  /**
   * Gives a model with a source encoder (`source` in its config) the text, image (`readImage`) or sound that the conversation is about. The
   * conversation starts over. Throws `ConfigError` for a model without a source, `DataError` for a source that it cannot read.
   */
  async show(source: SourceGiven): Promise<void> {
    this.reset();
    const session = this.model.session();
    try {
      await session.readSource(source);
      const shown = await session.snapshot();
      this.#shown?.dispose();
      this.#shown = shown;
      this.#after = shown;
    } finally {
      session.dispose();
    }
    // Tokens do not identify the source, so states after an earlier source must not be reused.
    this.#mark?.dispose();
    this.#mark = undefined;
    this.#state.dispose();
    this.#cache = new PrefixMemory(this.model, OWN_CACHE_BYTES);
    this.#state = this.model.session({ cache: this.#cache });
    this.#state.restore(this.#shown);
  }

  /** Frees the states. A cache that was passed in is left to its owner. */
  dispose(): void {
    this.#state.dispose();
    this.#mark?.dispose();
    this.#shown?.dispose();
  }

  async #learned(): Promise<MessageFormat> {
    const { tokenizer } = this.model;
    this.#format ??= this.template
      ? await ConversationFormat.learn(this.template, tokenizer)
      : new LineFormat(tokenizer, undefined, this.model.model.source !== undefined);
    return this.#format;
  }

  /** Restricts an answer to a grammar, after its thought if the model thinks. */
  async #constraint(
    answer: Node,
    prompt: AnswerBeginning,
    stopTokens: readonly number[],
  ): Promise<Constraint> {
    const { form } = await this.#learned();
    const ends = [...this.model.ends, ...stopTokens];
    return new Constraint(withThought(answer, form, prompt), this.model.tokenTree(form), ends);
  }

  /** Reads a prompt; returns how many of its tokens were reused, the parser of the answer, and where the answer begins. */
  async #read(
    messages: readonly ChatMessage[],
    signal: AbortSignal | undefined,
  ): Promise<{ reusedTokens: number; reader: AnswerReader; prompt: AnswerBeginning }> {
    const { source } = this.model.model;
    if (source && !this.#after)
      throw new DataError(`this model ${source.modality.about} before it writes: show it one first`);
    const format = await this.#learned();
    const { ids, boundary, ...prompt } = await format.withAnswer(messages, {
      ...this.#context,
      before: this.#after?.tokens ?? [],
    });
    const reader = new AnswerReader(format.reading(prompt.thinking, this.#context.tools));
    if (sharedLength(this.tokens, ids) < this.tokens.length) {
      this.#state.dispose();
      this.#state = this.model.session({ cache: this.#cache });
    }
    const { reusedTokens, mark } = await readPrompt(
      this.#state,
      { ids, boundary: this.#once ? 0 : boundary },
      this.#cache,
      {
        known: [this.#mark, this.#after],
        signal,
      },
    );
    if (mark) {
      this.#mark?.dispose();
      this.#mark = mark;
    }
    return { reusedTokens, reader, prompt };
  }
}
