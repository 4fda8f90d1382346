/** A model, its sessions and their snapshots, in a worker of the page. They have the same methods as Node's, but asynchronous. */
import type {
  ChatOpenOptions,
  ChatPiece,
  ChatTurn,
  ForkPiece,
  GeneratedPiece,
  GenerateOptions,
  Logits,
  ReadOptions,
  ReadResult,
  StopReason,
  ToolResult,
} from '../generate/index.js';
import type { Trace, TraceOptions } from '../inspect/index.js';
import type { ChatMessage } from '../text/index.js';
import type { AboutState, ChatFacts, KeptState, ModelFacts, SessionFacts, SnapshotFacts } from './facts.js';
import { type Connection, Remote, type Types } from './remote.js';

/** Generation options without `steering`, whose functions cannot be sent to a worker. */
export type TabGenerateOptions = Omit<GenerateOptions, 'steering'>;

/** A fork after it has generated, and why it ended. */
export interface WrittenTabFork {
  readonly session: TabSession;
  readonly reason: StopReason;
}

/** See `ChatOpenOptions`. Conversations with a model share cached prefixes. */
export type TabChatOptions = Omit<ChatOpenOptions, 'cache' | 'after'> & { readonly after?: TabSnapshot };

/** See `LanguageModel`. */
export class TabModel extends Remote<ModelFacts> {
  get info(): ModelFacts {
    return this.facts;
  }

  /** A new session: with no tokens read. */
  session(): TabSession {
    const id = this.connection.newName();
    const session = new TabSession(this.connection, id, { bytes: 0, from: 0, tokens: [] });
    // Later calls of the session arrive after this one; if this one fails, they fail too.
    this.connection.call(this.id, 'session', [], id).catch(() => {});
    return session;
  }

  /** A conversation with the model, as `ChatSession.open` opens it in Node: undefined if it has no chat template. */
  chat(options: TabChatOptions & { readonly lines: true }): Promise<TabChat>;
  chat(options?: TabChatOptions): Promise<TabChat | undefined>;
  chat(options: TabChatOptions = {}): Promise<TabChat | undefined> {
    return this.connection.call(0, 'chat', [this, options]);
  }

  encode(text: string): Promise<number[]> {
    return this.connection.call(0, 'encode', [this, text]);
  }

  /** See `Tokenizer.encodeFromStart`: the tokens that a session reads for its first text; use it for a trace too. */
  encodeFromStart(text: string): Promise<number[]> {
    return this.connection.call(0, 'encodeFromStart', [this, text]);
  }

  decode(ids: readonly number[]): Promise<string> {
    return this.connection.call(0, 'decode', [this, ids]);
  }

  /** See `LanguageModel.logits`. */
  logits(ids: readonly (readonly number[])[]): Promise<Logits> {
    return this.call('logits', ids);
  }

  /** See `LanguageModel.embed`. */
  embed(prompt: string | readonly number[]): Promise<Float32Array> {
    return this.call('embed', prompt);
  }

  /** See `LanguageModel.trace`. */
  trace(ids: readonly number[], options: TraceOptions = {}): Promise<Trace> {
    return this.call('trace', ids, options);
  }

  /** A saved state: from `toBlob`, or a file written by Node. Throws `SnapshotError` as `loadSnapshot` does. */
  loadSnapshot(file: Blob): Promise<TabSnapshot> {
    return this.connection.call(0, 'loadState', [this, file]);
  }

  /** The model's stored states, newest first, also those of earlier visits. */
  keptStates(): Promise<KeptState[]> {
    return this.connection.call(0, 'keptStates', [this]);
  }

  /** Loads a stored state; a conversation can continue from it without reading its tokens again. Throws `UnknownStateError` and the errors of `loadSnapshot`. */
  keptState(id: string): Promise<TabSnapshot> {
    return this.connection.call(0, 'keptState', [this, id]);
  }

  /** Copies a stored state under a new id. Throws `UnknownStateError`. */
  forkState(id: string, name: string | null = null): Promise<KeptState> {
    return this.connection.call(0, 'forkState', [this, id, name]);
  }

  /** Renames a stored state. Throws `UnknownStateError`. */
  nameState(id: string, name: string | null): Promise<KeptState> {
    return this.connection.call(0, 'nameState', [this, id, name]);
  }

  /** Deletes a stored state. Throws `UnknownStateError`. */
  deleteState(id: string): Promise<void> {
    return this.connection.call(0, 'deleteState', [this, id]);
  }

  /** Frees the model and terminates the worker. */
  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.end();
  }
}

/** A session or conversation, with the tokens that it has read and written. */
abstract class Writer<Facts extends SessionFacts> extends Remote<Facts> {
  private readonly all: number[] = [];

  constructor(connection: Connection, id: number, facts: Facts) {
    super(connection, id, facts);
    this.changed(facts);
  }

  /** All tokens read and written. */
  get tokens(): readonly number[] {
    return this.all;
  }

  /** Size of the state in bytes, after the last call. */
  get bytes(): number {
    return this.facts.bytes;
  }

  protected override changed(facts: Facts): Facts {
    this.all.length = facts.from;
    for (const id of facts.tokens) this.all.push(id);
    return facts;
  }

  /** Streams the pieces of a generating method. Ending the iteration interrupts the generation. */
  protected async *written<Piece, Result>(
    method: string,
    ...args: readonly unknown[]
  ): AsyncGenerator<Piece, Result> {
    const { connection } = this;
    const writing = connection.newName();
    // Each piece also updates the facts of this object.
    connection.follow(writing, (facts) => this.take(facts as Facts));
    try {
      await connection.call(0, 'write', [this, method, args], writing);
      try {
        for (;;) {
          const next = await connection.call<IteratorResult<Piece, Result>>(writing, 'next', []);
          if (next.done) return next.value;
          yield next.value;
        }
      } finally {
        await connection.call(writing, 'return', []);
      }
    } finally {
      connection.forget(writing);
    }
  }

  snapshot(): Promise<TabSnapshot> {
    return this.call('snapshot');
  }

  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.forget(this.id);
  }
}

/** See `Session`. */
export class TabSession extends Writer<SessionFacts> {
  read(prompt: string | readonly number[], options: ReadOptions = {}): Promise<ReadResult> {
    return this.call('read', prompt, options);
  }

  /** See `Session.readEach`. */
  readEach(ids: readonly number[]): Promise<Float32Array> {
    return this.call('readEach', ids);
  }

  generate(options: TabGenerateOptions & { n: number }): AsyncGenerator<ForkPiece, WrittenTabFork[]>;
  generate(options?: TabGenerateOptions): AsyncGenerator<GeneratedPiece, StopReason>;
  generate(
    options: TabGenerateOptions & { n?: number } = {},
  ): AsyncGenerator<GeneratedPiece & ForkPiece, never> {
    return this.written('generate', options);
  }

  restore(snapshot: TabSnapshot): Promise<void> {
    return this.call('restore', snapshot);
  }

  fork(): Promise<TabSession> {
    return this.call('fork');
  }
}

/** See `ChatSession`. */
export class TabChat extends Writer<ChatFacts> {
  /** The conversation so far. */
  get messages(): readonly ChatMessage[] {
    return this.facts.messages;
  }

  /** Tokens and times of the last answer; undefined before the first. */
  get turn(): ChatTurn | undefined {
    return this.facts.turn;
  }

  /** See `ChatSession.say`. */
  say(text: string, options: TabGenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.written('say', text, options);
  }

  /** See `ChatSession.tell`. */
  tell(results: readonly ToolResult[], options: TabGenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.written('tell', results, options);
  }

  /** See `ChatSession.answer`. */
  answer(
    messages: readonly ChatMessage[],
    options: TabGenerateOptions = {},
  ): AsyncGenerator<ChatPiece, void> {
    return this.written('answer', messages, options);
  }

  /** See `ChatSession.regenerate`. */
  regenerate(options: TabGenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.written('regenerate', options);
  }

  /** See `ChatSession.edit`. */
  edit(turn: number, text: string, options: TabGenerateOptions = {}): AsyncGenerator<ChatPiece, void> {
    return this.written('edit', turn, text, options);
  }

  /** See `ChatSession.encode`. */
  encode(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    return this.call('encode', messages);
  }

  /** See `ChatSession.reset`. */
  reset(): Promise<void> {
    return this.call('reset');
  }
}

/** See `Snapshot`. */
export class TabSnapshot extends Remote<SnapshotFacts> {
  get bytes(): number {
    return this.facts.bytes;
  }

  /** Tokens read and written. */
  get length(): number {
    return this.facts.length;
  }

  /** Stores the state in the browser, also for later visits: see `TabModel.keptState`. Throws `StorageError` if there is too little space. */
  keep(about: AboutState = {}): Promise<KeptState> {
    return this.connection.call(0, 'keepState', [this, about]);
  }

  /** The state in the file format of `Snapshot.save`, which Node can load. */
  toBlob(): Promise<Blob> {
    return this.connection.call(0, 'stateFile', [this]);
  }

  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.forget(this.id);
  }
}

/** The page's class for each type of object of the worker. */
export const TYPES: Types = {
  model: (connection, id, facts) => new TabModel(connection, id, facts),
  session: (connection, id, facts: SessionFacts) => new TabSession(connection, id, facts),
  chat: (connection, id, facts: ChatFacts) => new TabChat(connection, id, facts),
  snapshot: (connection, id, facts) => new TabSnapshot(connection, id, facts),
};
