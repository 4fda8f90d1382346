import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CheckpointError } from '../errors.js';
import { readModel } from './folder.js';
import { checkpointFolder, modelFolder, modelName, namedModel } from './locate.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'heddle-locate-'));
  vi.spyOn(process, 'cwd').mockReturnValue(root);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true });
});

/** Makes a folder with empty files. */
function folder(path: string, ...files: string[]): string {
  const made = join(root, path);
  mkdirSync(made, { recursive: true });
  for (const file of files) writeFileSync(join(made, file), '');
  return made;
}

const SHIPPED = fileURLToPath(new URL('../../assets/sotu-hybrid', import.meta.url));

test('the shipped model has a name that works from anywhere', async () => {
  expect(modelFolder('sotu-hybrid')).toBe(SHIPPED);
  expect(modelFolder('sotu')).toBe(SHIPPED);
  expect(modelName('sotu')).toBe('sotu-hybrid');
  expect((await readModel(modelFolder('sotu-hybrid'))).pattern).toBe('(M-M-M-M-S-)x2');
});

test("a model's folder is itself, and named as its last part", () => {
  const model = folder('models/owner/mine', 'config.json');
  expect(modelFolder(model)).toBe(model);
  expect(modelFolder(`${model}/`)).toBe(`${model}/`);
  expect(modelName(`${model}/`)).toBe('mine');
  // A checkpoint that was copied without its run's log is still the run's.
  expect(modelName(folder('models/first/checkpoint', 'config.json'))).toBe('first');
  expect(modelName('/checkpoint')).toBe('checkpoint');
});

test("a run's folder stands for its checkpoint, which is named after the run", () => {
  const run = folder('runs/a', 'metrics.jsonl');
  const checkpoint = folder('runs/a/checkpoint', 'config.json');
  for (const named of [run, `${run}/`, checkpoint, `${checkpoint}/`]) {
    expect(modelFolder(named).replace(/\/$/, '')).toBe(checkpoint);
    expect(modelName(named)).toBe('a');
  }
  folder('runs/lora/checkpoint', 'adapter_config.json');
  expect(checkpointFolder(join(root, 'runs/lora'))).toBe(join(root, 'runs/lora/checkpoint'));
});

test('a folder in the cache of huggingface_hub stands for the snapshot of its branch main', () => {
  const [first, second] = ['aaa', 'bbb'].map((commit) =>
    folder(`hub/models--owner--a-b/snapshots/${commit}`, 'config.json'),
  );
  const cached = join(root, 'hub/models--owner--a-b');
  // Which of two is meant nobody says.
  expect(modelFolder(cached)).toBe(cached);
  writeFileSync(join(folder('hub/models--owner--a-b/refs'), 'main'), 'bbb\n');
  expect(modelFolder(`${cached}/`)).toBe(second);
  expect([modelName(cached), modelName(first!)]).toEqual(['a-b', 'a-b']);
  rmSync(join(cached, 'refs'), { recursive: true });
  rmSync(second!, { recursive: true });
  expect(modelFolder(cached)).toBe(first);
});

test('a folder that has a config is a model, whatever lies beside it', () => {
  const model = folder('model', 'config.json', 'metrics.jsonl');
  folder('model/checkpoint', 'config.json');
  expect(modelFolder(model)).toBe(model);
});

test('a run without a checkpoint, a folder that is not there, and a word are told apart', async () => {
  const run = folder('runs/new', 'metrics.jsonl');
  await expect(readModel(modelFolder(run))).rejects.toThrow(/runs\/new has no checkpoint yet/);
  await expect(readModel(modelFolder(join(root, 'none')))).rejects.toThrow(CheckpointError);
  await expect(readModel(modelFolder('sotu-hybird'))).rejects.toThrow(/there is no such folder.*sotu-hybrid/);
});

test('a model is given a name before =, unless that is a path', () => {
  const model = folder('runs/a=b', 'config.json');
  const other = folder('other', 'config.json');
  expect(namedModel(model)).toEqual({ name: 'a=b', folder: model });
  expect(namedModel(`mine=${other}`)).toEqual({ name: 'mine', folder: other });
  expect(namedModel(`mine=${model}`)).toEqual({ name: 'mine', folder: model });
  expect(namedModel('small=sotu')).toEqual({ name: 'small', folder: SHIPPED });
  expect(namedModel(`${root}/x=y`)).toEqual({ name: 'x=y', folder: `${root}/x=y` });
  expect(namedModel('mine=')).toEqual({ name: 'mine=', folder: 'mine=' });
});
