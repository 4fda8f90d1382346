/**
 * A conversation with a model, in the form that its chat template gives it.
 *
 * Each turn writes the whole conversation as text and as tokens, and the state always is that of exactly these tokens:
 * what a fresh session would have that reads them all. But only those are read that the state has not read yet. As a
 * rule the conversation so far is their beginning. It is not when the template writes an earlier answer otherwise than
 * the model did (without its thoughts, say), or when the tokens of an answer, put together, split differently. For that
 * the state is kept from where the answer began, before whatever the template puts in front of answers, since that may go
 * too: at most the last answer is read again. Those of earlier turns are in a cache, as far as its budget goes, for when an
 * earlier turn is said otherwise.
 */
import { modelFolder } from '#locate';
import { DataError } from '../errors.js';
import type { SourceGiven } from '../models/index.js';
import {
  type AnswerPart,
  AnswerReader,
  type ChatMessage,
  type ChatRenderOptions,
  ChatTemplate,
  endOfTurnIds,
  type JoinedAnswer,
  joinedParts,
  messageOf,
} from '../text/index.js';
import { ConversationFormat, type MessageFormat } from './conversation.js';
import type { GeneratedPiece, GenerateOptions, StopReason } from './generation.js';
import type { LanguageModel } from './language-model.js';
import { END_OF_PARAGRAPH, LineFormat } from './line-format.js';
import { PrefixMemory, type PrefixStore } from './prefix-memory.js';
import { readPrompt } from './prompt.js';
import type { Session } from './session.js';
import { sharedLength } from './shared-length.js';
import type { Snapshot } from './snapshot.js';

/** What the template gets in every turn, and where an answer ends. */
export interface ChatOptions extends Omit<ChatRenderOptions, 'addGenerationPrompt'> {
  /** The first message, which tells the model how to answer. */
  system?: string;
  /** Tokens that end an answer, besides those that end a text for the model and for its tokenizer. */
  stopTokens?: readonly number[];
  /** Where a session stood that the conversation goes on from: what it had read comes before the first message. */
  after?: Snapshot;
  /** Where states are kept, for other conversations too; by default this one has a cache of its own, of at most 512 MB. */
  cache?: PrefixStore;
  /**
   * One answer is asked for: the state from which it is given is not kept, and the prompt is read in one piece, which takes less time.
   * More turns can follow; they read that answer's prompt anew.
   */
  once?: boolean;
}

/** What `ChatSession.open` does besides. */
export interface ChatOpenOptions extends ChatOptions {
  /** Where the model has no chat template, it goes on from what is said, line by line, up to an empty line. */
  lines?: boolean;
}

const OWN_CACHE_BYTES = 512e6;

/** A piece of an answer: the text as the model wrote it, and what is certain with it about thoughts, content and calls of tools. */
export interface ChatPiece extends GeneratedPiece {
  readonly parts: readonly AnswerPart[];
}

/** What a tool gave. */
export interface ToolResult {
  /** The id of the call that it answers. */
  readonly id: string;
  readonly content: string;
}

/** An answer, and what it took. */
export interface ChatTurn extends JoinedAnswer {
  /** The answer as the model wrote it; `content`, `thought` and `calls` are what it says. */
  readonly text: string;
  /** Tokens of the prompt that the state had read before. */
  readonly reusedTokens: number;
  /** Tokens of the prompt that were read for this turn. */
  readonly readTokens: number;
  readonly writtenTokens: number;
  /** 'interrupt' when the caller took no more of it, or aborted it. */
  readonly stoppedBy: StopReason | 'interrupt';
}

/** A conversation with a model, turn by turn. Its state is kept, so that a turn reads what is new alone. */
export class ChatSession {
  readonly #context: Omit<ChatRenderOptions, 'addGenerationPrompt'>;
  readonly #stopTokens: readonly number[];
  readonly #beginning: readonly ChatMessage[];
  #messages: readonly ChatMessage[];
  /** The state at the end of the conversation. */
  #state: Session;
  /** That from where the last answer began. */
  #mark: Snapshot | undefined;
  #cache: PrefixStore;
  #after: Snapshot | undefined;
  /** The state behind what was shown, which is `#after` then. */
  #shown: Snapshot | undefined;
  readonly #once: boolean;
  #turn: ChatTurn | undefined;
  #format: MessageFormat | undefined;
  #busy = false;

  /** Without a template the model goes on from what is said, line by line. */
  constructor(
    private readonly model: LanguageModel,
    readonly template: ChatTemplate | undefined,
    { system, stopTokens = [], after, cache, once = false, ...context }: ChatOptions = {},
  ) {
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
   * A conversation by the template and the end-of-turn tokens in the model's folder, or what `loadModel` takes in its place;
   * undefined when it has no template, unless it may go on line by line.
   * Throws `TokenizerError`, with the file's path, for a file that is damaged.
   */
  static async open(
    model: LanguageModel,
    name: string,
    { lines = false, ...options }: ChatOpenOptions = {},
  ): Promise<ChatSession | undefined> {
    const folder = modelFolder(name);
    const template = await ChatTemplate.load(folder);
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

  /** What the last answer took; undefined before there was one. */
  get turn(): ChatTurn | undefined {
    return this.#turn;
  }

  /** All tokens of the conversation that the state has read or written. */
  get tokens(): readonly number[] {
    return this.#state.tokens;
  }

  /** Bytes of the state at the end of the conversation; with those that are kept it shares what has grown. */
  get bytes(): number {
    return this.#state.bytes;
  }

  /**
   * Says something to the model and gives its answer as it is written; `turn` then tells what it took. Who stops
   * listening, or aborts the signal, interrupts it: what was written until then remains as the answer. When it fails, or is aborted before
   * the answer begins, the conversation is as if nothing had been said. Throws the signal's reason after an abort; Throws `TokenizerError` when the template is broken or refuses the conversation,
   * `ConfigError` for an option outside its range, `DataError` while the last answer is being written.
   */
  say(text: string, options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => [...this.#messages, { role: 'user', content: text }], options);
  }

  /**
   * Gives the answer to a conversation, which then is this one, as `say` does: what of it was read before, here or by others with the
   * same cache, is not read again.
   */
  answer(messages: readonly ChatMessage[], options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => messages, options);
  }

  /**
   * Tells the model what the tools gave that it called in the last answer, and gives the answer to that, as `say` does. Throws `DataError`
   * for a result of no call in the last answer.
   */
  tell(results: readonly ToolResult[], options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
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

  /** Gives another answer in the place of the last one, as `say` does. Throws `DataError` before there was one. */
  regenerate(options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      if (this.turns === 0) throw new DataError('there is no answer yet: say something first');
      return this.#messages.slice(0, -1);
    }, options);
  }

  /**
   * Says something else in an earlier turn, counted from 0, and gives the answer, as `say` does; what came after goes. Throws
   * `DataError` for a turn that there was not.
   */
  edit(turn: number, text: string, options: GenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.#answer(() => {
      if (!(Number.isInteger(turn) && turn >= 0 && turn < this.turns)) {
        throw new DataError(`there is no turn ${turn}: the conversation has ${this.turns}, counted from 0`);
      }
      const said = [...this.#messages.keys()].filter((i) => this.#messages[i]!.role === 'user');
      return [...this.#messages.slice(0, said[turn]), { role: 'user', content: text }];
    }, options);
  }

  /** The tokens of messages, as this conversation would read them. Throws `TokenizerError` for what the template does not take. */
  async encode(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    return (await (await this.#learned()).alone(messages, this.#context)).ids;
  }

  /** The state at the end of the conversation. */
  snapshot(): Promise<Snapshot> {
    return this.#state.snapshot();
  }

  /** How many turns the conversation has. */
  get turns(): number {
    return this.#messages.filter(({ role }) => role === 'user').length;
  }

  /** The answer to a conversation, which then is this one. */
  async *#answer(
    prompt: () => readonly ChatMessage[],
    options: GenerateOptions,
  ): AsyncGenerator<ChatPiece, void> {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#busy = true;
    try {
      const messages = prompt();
      const { reusedTokens, reader } = await this.#read(messages, options.signal);
      const readTokens = this.tokens.length - reusedTokens;
      const stopTokens = [...this.#stopTokens, ...(options.stopTokens ?? [])];
      const stop = [...(options.stop ?? []), ...(this.template ? [] : [END_OF_PARAGRAPH])];
      const pieces = this.#state.generate({ ...options, stopTokens, stop });
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
        // The caller may have left at the yield; then the state still reads what it was given last.
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

  /** Begins anew, with the system message if there is one. Throws `DataError` while an answer is being written. */
  reset(): void {
    if (this.#busy) throw new DataError('the last answer is being written: wait until it is done');
    this.#messages = this.#beginning;
    this.#turn = undefined;
  }

  /**
   * Shows a model that reads a source (`source` in its config) what the conversation is about: a text, an image (`readImage`) or a sound. The
   * conversation begins anew. Throws `ConfigError` for a model that reads none, `DataError` for what it cannot read.
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
    // Tokens do not tell one source from another: what was read behind an earlier one is of no use.
    this.#mark?.dispose();
    this.#mark = undefined;
    this.#state.dispose();
    this.#cache = new PrefixMemory(this.model, OWN_CACHE_BYTES);
    this.#state = this.model.session({ cache: this.#cache });
    this.#state.restore(this.#shown);
  }

  /** Frees the states. The template and the cache, which others may use, are left to whoever has them. */
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

  /** Brings the state to the end of a prompt; returns how many of its tokens it had read before, and what reads the answer. */
  async #read(
    messages: readonly ChatMessage[],
    signal: AbortSignal | undefined,
  ): Promise<{ reusedTokens: number; reader: AnswerReader }> {
    const { source } = this.model.model;
    if (source && !this.#after)
      throw new DataError(`this model ${source.modality.about} before it writes: show it one first`);
    const format = await this.#learned();
    const { ids, boundary, thinking } = await format.withAnswer(messages, {
      ...this.#context,
      before: this.#after?.tokens ?? [],
    });
    const reader = new AnswerReader(format.reading(thinking, this.#context.tools));
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
    return { reusedTokens, reader };
  }
}
