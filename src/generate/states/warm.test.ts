/** States that are kept in memory: which ones stay, and that none outlives its record. The library and the snapshots are played. */
import { expect, test } from 'vitest';
import { SnapshotError, UnknownStateError } from '../../errors.js';
import type { LanguageModel } from '../language-model.js';
import type { StateLibrary } from './library.js';
import { WarmStates } from './warm.js';

const model = { fingerprint: { hash: 'a', quantization: 'none' } } as LanguageModel;

/** A library of states of 100 bytes, which notes what is loaded and how many references to each there are. */
function played() {
  const there = new Set(['one', 'two', 'three', 'broken']);
  const loaded: string[] = [];
  const references = new Map<string, number>();
  const snapshot = (id: string): unknown => {
    references.set(id, (references.get(id) ?? 0) + 1);
    return {
      id,
      bytes: 100,
      copy: () => snapshot(id),
      dispose: () => references.set(id, references.get(id)! - 1),
    };
  };
  const library = {
    async record(_: string, id: string) {
      if (!there.has(id)) throw new UnknownStateError(`there is no state ${id}`);
      return { id };
    },
    async load(_: string, id: string) {
      loaded.push(id);
      if (id === 'broken') throw new SnapshotError('it is damaged');
      return { record: { id }, snapshot: snapshot(id) };
    },
  };
  return { there, loaded, references, library: library as unknown as StateLibrary };
}

test('the states asked for last stay in memory, as many as fit', async () => {
  const { loaded, references, library } = played();
  const states = new WarmStates(library, 250);
  const ask = async (id: string, of = model) => {
    const { record, snapshot } = await states.load('archive', id, of);
    expect([record.id, (snapshot as unknown as { id: string }).id]).toEqual([id, id]);
    snapshot.dispose();
  };
  for (const id of ['one', 'two', 'one', 'two', 'one']) await ask(id);
  expect(loaded).toEqual(['one', 'two']);
  await ask('three');
  // The second was asked for the longest time ago.
  expect(Object.fromEntries(references)).toEqual({ one: 1, two: 0, three: 1 });
  await ask('one');
  expect(loaded).toEqual(['one', 'two', 'three']);
  await ask('two');
  expect(loaded).toEqual(['one', 'two', 'three', 'two']);
  // Another model's state is another one.
  await ask('two', { fingerprint: { hash: 'b', quantization: 'none' } } as LanguageModel);
  expect(loaded.length).toBe(5);
  await states.clear();
  expect([...references.values()].every((count) => count === 0)).toBe(true);
});

test('one that is larger than the limit is not kept; the caller has it all the same', async () => {
  const { references, library } = played();
  const { snapshot } = await new WarmStates(library, 50).load('archive', 'one', model);
  expect(references.get('one')).toBe(1);
  snapshot.dispose();
  expect(references.get('one')).toBe(0);
});

test('two that ask at once wait for one file; one that is deleted or damaged is not kept', async () => {
  const { there, loaded, references, library } = played();
  const states = new WarmStates(library, 1000);
  const both = await Promise.all(['one', 'one'].map((id) => states.load('archive', id, model)));
  for (const { snapshot } of both) snapshot.dispose();
  expect(loaded).toEqual(['one']);
  there.delete('one');
  await expect(states.load('archive', 'one', model)).rejects.toThrow(UnknownStateError);
  expect(references.get('one')).toBe(0);
  for (let i = 0; i < 2; i++)
    await expect(states.load('archive', 'broken', model)).rejects.toThrow(SnapshotError);
  expect(loaded).toEqual(['one', 'broken', 'broken']);
});
