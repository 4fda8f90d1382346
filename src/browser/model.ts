/** A model, its sessions and their snapshots, in a worker of the page. They answer as those of Node do. */
import type {
  ForkPiece,
  GeneratedPiece,
  GenerateOptions,
  Logits,
  ReadOptions,
  ReadResult,
  StopReason,
} from '../generate/index.js';
import type { Trace, TraceOptions } from '../inspect/index.js';
import type { ModelFacts, SessionFacts, SnapshotFacts } from './facts.js';
import { type Connection, Remote, type Types } from './remote.js';

/** What cannot be handed to a worker: functions that change logits. */
export type TabGenerateOptions = Omit<GenerateOptions, 'steering'>;

/** A fork where it stands after it has written, and why it ended. */
export interface WrittenTabFork {
  readonly session: TabSession;
  readonly reason: StopReason;
}

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

  encode(text: string): Promise<number[]> {
    return this.connection.call(0, 'encode', [this, text]);
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

  /** Frees the model; the worker ends with it. */
  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.end();
  }
}

type Next = IteratorResult<GeneratedPiece | ForkPiece, StopReason | WrittenTabFork[]>;

/** See `Session`. */
export class TabSession extends Remote<SessionFacts> {
  private readonly all: number[] = [];

  constructor(connection: Connection, id: number, facts: SessionFacts) {
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

  protected override changed(facts: SessionFacts): SessionFacts {
    this.all.length = facts.from;
    this.all.push(...facts.tokens);
    return facts;
  }

  read(prompt: string | readonly number[], options: ReadOptions = {}): Promise<ReadResult> {
    return this.call('read', prompt, options);
  }

  /** See `Session.readEach`. */
  readEach(ids: readonly number[]): Promise<Float32Array> {
    return this.call('readEach', ids);
  }

  generate(options?: TabGenerateOptions): AsyncGenerator<GeneratedPiece, StopReason>;
  generate(options: TabGenerateOptions & { n: number }): AsyncGenerator<ForkPiece, WrittenTabFork[]>;
  async *generate(
    options: TabGenerateOptions & { n?: number } = {},
  ): AsyncGenerator<GeneratedPiece | ForkPiece, StopReason | WrittenTabFork[]> {
    const { connection } = this;
    const writing = connection.newName();
    // What a piece has changed is told of the session.
    connection.follow(writing, (facts) => this.take(facts as SessionFacts));
    await connection.call(0, 'generate', [this, options], writing);
    try {
      for (;;) {
        const next = await connection.call<Next>(writing, 'next', []);
        if (next.done) return next.value;
        yield next.value;
      }
    } finally {
      await connection.call(writing, 'return', []);
      connection.forget(writing);
    }
  }

  snapshot(): Promise<TabSnapshot> {
    return this.call('snapshot');
  }

  restore(snapshot: TabSnapshot): Promise<void> {
    return this.call('restore', snapshot);
  }

  fork(): Promise<TabSession> {
    return this.call('fork');
  }

  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.forget(this.id);
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

  /** The state as a file, as `Snapshot.save` writes it: to download, to keep in IndexedDB, to open in Node. */
  toBlob(): Promise<Blob> {
    return this.connection.call(0, 'stateFile', [this]);
  }

  async dispose(): Promise<void> {
    await this.call('dispose');
    this.connection.forget(this.id);
  }
}

export const TYPES: Types = {
  model: (connection, id, facts) => new TabModel(connection, id, facts),
  session: (connection, id, facts: SessionFacts) => new TabSession(connection, id, facts),
  snapshot: (connection, id, facts) => new TabSnapshot(connection, id, facts),
};
