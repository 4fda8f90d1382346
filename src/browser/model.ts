/** A model, its sessions and their snapshots, in a worker of the page. They answer as those of Node do. */
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

/** What cannot be handed to a worker: functions that change logits. */
export type TabGenerateOptions = Omit<GenerateOptions, 'steering'>;

/** A fork where it stands after it has written, and why it ended. */
export interface WrittenTabFork {
  readonly session: TabSession;
  readonly reason: StopReason;
}

/** See `ChatOpenOptions`. Conversations with a model share what they have read. */
export type TabChatOptions = Omit<ChatOpenOptions, 'cache' | 'after'> & { readonly after?: TabSnapshot };

/** See `LanguageModel`. */
export class TabModel extends Remote<ModelFacts> {
  get info(): ModelFacts {
    return this.facts;
  }

  /** A new session: it has read nothing. */
  session(): TabSession {
    const id = this.connection.newName();
    const session = new TabSession(this.connection, id, { bytes: 0, from: 0, tokens: [] });
    // What is asked of the session comes after this; where it fails, so does that.
    this.connection.call(this.id, 'session', [], id).catch(() => {});
    return session;
  }

  /** A conversation with the model, as `ChatSession.open` opens it in Node: undefined where it has no chat template. */
  chat(options: TabChatOptions & { readonly lines: true }): Promise<TabChat>;
  chat(options?: TabChatOptions): Promise<TabChat | undefined>;
  chat(options: TabChatOptions = {}): Promise<TabChat | undefined> {
    return this.connection.call(0, 'chat', [this, options]);
  }

  encode(text: string): Promise<number[]> {
    return this.connection.call(0, 'encode', [this, text]);
  }

  /** See `Tokenizer.encodeFromStart`: what a session reads of its first text, and a trace of one should have. */
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

  /** A saved state: what `toBlob` gave here, or a file that Node has written. Throws `SnapshotError` as `loadSnapshot` does. */
  loadSnapshot(file: Blob): Promise<TabSnapshot> {
    return this.connection.call(0, 'loadState', [this, file]);
  }

  /** The model's states that the browser keeps, the newest first: also those of earlier visits. */
  keptStates(): Promise<KeptState[]> {
    return this.connection.call(0, 'keptStates', [this]);
  }

  /** One of them; conversations with the model go on from it without reading it again. Throws `UnknownStateError`, and as `loadSnapshot`. */
  keptState(id: string): Promise<TabSnapshot> {
    return this.connection.call(0, 'keptState', [this, id]);
  }

  /** A copy of a kept state, to be named or deleted by itself. Throws `UnknownStateError`. */
  forkState(id: string, name: string | null = null): Promise<KeptState> {
    return this.connection.call(0, 'forkState', [this, id, name]);
  }

  /** Throws `UnknownStateError`. */
  nameState(id: string, name: string | null): Promise<KeptState> {
    return this.connection.call(0, 'nameState', [this, id, name]);
  }

  /** Throws `UnknownStateError`. */
  deleteState(id: string): Promise<void> {
    return this.connection.call(0, 'deleteState', [this, id]);
  }

  /** Frees the model; the worker ends with it. */
  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.end();
  }
}

/** What writes: it remembers its tokens. */
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

  /** Bytes that this sequence's state takes, after the last call. */
  get bytes(): number {
    return this.facts.bytes;
  }

  protected override changed(facts: Facts): Facts {
    this.all.length = facts.from;
    for (const id of facts.tokens) this.all.push(id);
    return facts;
  }

  /** What a method of the worker's object writes, piece by piece. Who stops listening interrupts it. */
  protected async *written<Piece, Result>(
    method: string,
    ...args: readonly unknown[]
  ): AsyncGenerator<Piece, Result> {
    const { connection } = this;
    const writing = connection.newName();
    // What a piece has changed is told of the writer.
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

  generate(options?: TabGenerateOptions): AsyncGenerator<GeneratedPiece, StopReason>;
  generate(options: TabGenerateOptions & { n: number }): AsyncGenerator<ForkPiece, WrittenTabFork[]>;
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

  /** What the last answer took; undefined before there was one. */
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

  /** Keeps the state in the browser, for later visits too: see `TabModel.keptState`. Throws `StorageError` where there is no room. */
  keep(about: AboutState = {}): Promise<KeptState> {
    return this.connection.call(0, 'keepState', [this, about]);
  }

  /** The state as a file, as `Snapshot.save` writes it: to download, to open in Node. */
  toBlob(): Promise<Blob> {
    return this.connection.call(0, 'stateFile', [this]);
  }

  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.forget(this.id);
  }
}

/** Which class of the page stands for which object of the worker. */
export const TYPES: Types = {
  model: (connection, id, facts) => new TabModel(connection, id, facts),
  session: (connection, id, facts: SessionFacts) => new TabSession(connection, id, facts),
  chat: (connection, id, facts: ChatFacts) => new TabChat(connection, id, facts),
  snapshot: (connection, id, facts) => new TabSnapshot(connection, id, facts),
};
