/**
 * The law of held memory: whatever sessions are made to do with it, each stands where reading and writing its tokens
 * from the beginning leads, in the same pieces, to the last bit. For every mixer and for every family of checkpoints.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { HostTensor, State } from '../engine/index.js';
import { openModel } from '../models/index.js';
import { fixtureFolder, referenceNames } from '../models/testing/reference.js';
import { Random } from '../nn/index.js';
import { LanguageModel } from './language-model.js';
import { PREFILL_CHUNK } from './runner.js';
import type { Session } from './session.js';
import { loadSnapshot, type Snapshot } from './snapshot.js';
import { device, tinyModel, tokenizer } from './testing/tiny.js';

const folder = await mkdtemp(join(tmpdir(), 'heddle-law-'));
afterAll(() => rm(folder, { recursive: true }));

/** What a session did: read tokens in one piece, or written one after the other. */
type History = readonly { readonly did: 'read' | 'write'; readonly ids: readonly number[] }[];

/** The state and the logits after a history and one more piece, computed from the beginning. */
async function recomputed(model: LanguageModel, history: History): Promise<Map<string, HostTensor>> {
  const state = model.newState();
  let position = 0;
  let logits = new Float32Array();
  for (const { did, ids } of history) {
    const size = did === 'read' ? PREFILL_CHUNK : 1;
    for (let start = 0; start < ids.length; start += size) {
      const chunk = ids.slice(start, start + size);
      logits = (await model.read({ ids: chunk, position, state })) as typeof logits;
      position += chunk.length;
    }
  }
  return valuesOf(state, logits);
}

async function valuesOf(state: State, logits: Float32Array): Promise<Map<string, HostTensor>> {
  const values = await state.read();
  return values.set('logits', { dtype: 'float32', dims: [logits.length], data: logits });
}

interface Held<T> {
  readonly held: T;
  readonly history: History;
}

/** Sessions and snapshots of one model, and what they came from. */
class Play {
  readonly sessions: Held<Session>[];
  readonly snapshots: Held<Snapshot>[] = [];

  constructor(
    readonly model: LanguageModel,
    private readonly random: Random,
  ) {
    this.sessions = [{ held: model.session(), history: [] }];
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)]!;
  }

  private ids(count: number): number[] {
    return Array.from({ length: count }, () => this.random.below(this.model.model.vocabSize));
  }

  private replace(old: Held<Session>, history: History): void {
    this.sessions[this.sessions.indexOf(old)] = { held: old.held, history };
  }

  async step(): Promise<void> {
    const one = this.pick(this.sessions);
    const { held: session, history } = one;
    const kind = this.random.below(12);
    if (history.length === 0 || kind < 3) {
      const ids = this.ids(this.pick([1, 1, 2, 5, 40]));
      await session.read(ids);
      this.replace(one, [...history, { did: 'read', ids }]);
    } else if (kind < 6) {
      this.replace(one, [...history, { did: 'write', ids: await this.write(session) }]);
    } else if (kind < 8) {
      this.snapshots.push({ held: await session.snapshot(), history });
    } else if (kind === 8 && this.snapshots.length > 0) {
      const { held, history } = this.pick(this.snapshots);
      session.restore(held);
      this.replace(one, history);
    } else if (kind === 9) {
      this.sessions.push({ held: await session.fork(), history });
    } else if (kind === 10 && this.snapshots.length > 0) {
      const { held, history } = this.pick(this.snapshots);
      const path = join(folder, 'a.state');
      await held.save(path);
      this.snapshots.push({ held: await loadSnapshot(path, this.model), history });
    } else if (kind === 11 && this.sessions.length > 1) {
      session.dispose();
      this.sessions.splice(this.sessions.indexOf(one), 1);
    }
  }

  /** Lets it write up to so many tokens, and perhaps listens to fewer. */
  private async write(session: Session): Promise<number[]> {
    const options = { maxTokens: 1 + this.random.below(20), temperature: 2, topP: 1 };
    const listens = this.random.below(3) === 0 ? this.random.below(options.maxTokens) : options.maxTokens;
    const ids: number[] = [];
    for await (const { id } of session.generate({ ...options, seed: this.random.below(100) })) {
      if (id !== undefined) ids.push(id);
      if (ids.length > listens) break;
    }
    return ids;
  }

  /** Holds every session and snapshot against what is computed from the beginning, all after one more token. */
  async check(): Promise<void> {
    const probe = { did: 'read' as const, ids: [3] };
    const all = [
      ...this.sessions.map(async ({ held, history }) => ({ session: await held.fork(), history })),
      ...this.snapshots.map(async ({ held, history }) => {
        const session = this.model.session();
        session.restore(held);
        return { session, history };
      }),
    ];
    for (const { session, history } of await Promise.all(all)) {
      expect(session.tokens).toEqual(history.flatMap(({ ids }) => ids));
      await session.read(probe.ids);
      const { state, logits } = await session.snapshot();
      const expected = await recomputed(this.model, [...history, probe]);
      const actual = await valuesOf(state, logits!);
      expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
      for (const [name, { data, dims }] of expected) {
        const found = actual.get(name)!;
        expect(found.dims, name).toEqual(dims);
        expect(Buffer.compare(bytesOf(found), bytesOf({ data })), name).toBe(0);
      }
      session.dispose();
    }
  }
}

function bytesOf({ data }: Pick<HostTensor, 'data'>): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

async function play(model: LanguageModel, seed: number, steps: number): Promise<void> {
  const random = new Random(seed);
  const game = new Play(model, random);
  for (let i = 0; i < steps; i++) await game.step();
  await game.check();
}

describe('every mixer', () => {
  test.each(['M-*W-S', 'M-', '*-', 'W-', 'S-', 'K-L', 'mGRC', 'NIg', 'DVAQ'])('%s', async (pattern) => {
    const { language } = await tinyModel({ pattern });
    for (const seed of [1, 2]) await play(language, seed, 30);
    await language.dispose();
  });

  test('over more than a chunk, and more than the room that a buffer begins with', async () => {
    const { language } = await tinyModel();
    const game = new Play(language, new Random(5));
    const [{ held }] = game.sessions as [Held<Session>];
    const ids = Array.from({ length: PREFILL_CHUNK + 60 }, (_, i) => (i * 7) % 300);
    await held.read(ids);
    game.sessions[0] = { held, history: [{ did: 'read', ids }] };
    for (let i = 0; i < 30; i++) await game.step();
    await game.check();
    await language.dispose();
  });
});

describe('every family', () => {
  test.each(referenceNames('hf'))('%s', async (name) => {
    const { model, weights } = await openModel(fixtureFolder('hf', name));
    const language = await LanguageModel.compile(model, weights, tokenizer, device);
    await play(language, 7, 24);
    await language.dispose();
  });
});
