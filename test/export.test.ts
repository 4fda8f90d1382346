/** `heddle export` as a whole: the output runs without Heddle, is complete, and never overwrites other files. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { tinyModel } from '../src/generate/testing/tiny.js';
import { type ModelConfigInput, writeModel } from '../src/models/index.js';
import { readReference } from '../src/models/testing/reference.js';
import { build, heddle, type Outcome } from './testing/heddle.js';

const EXAMPLE = fileURLToPath(new URL('../examples/onnx-generate.mjs', import.meta.url));

beforeAll(build);

let here: string;
let out: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-export-command-'));
  out = join(here, 'out');
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

/** A model of ours, with its tokenizer, in a folder, and the 16 ids that it goes on with. */
async function ours(change: Partial<ModelConfigInput> = {}) {
  const folder = join(here, 'ours');
  mkdirSync(folder);
  const { model, weights, language } = await tinyModel({ nGroups: 1, ...change });
  await writeModel(folder, model, weights);
  await language.tokenizer.save(folder);
  const prompt = Array.from({ length: 21 }, (_, i) => (7 + 13 * i * i) % 300);
  const ids = [...prompt];
  for (let i = 0; i < 16; i++) {
    const { data } = await language.logits([ids]);
    const last = data.subarray(-300);
    ids.push(last.indexOf(last.reduce((a, b) => Math.max(a, b))));
  }
  await language.dispose();
  return { folder, prompt, greedy: ids.slice(prompt.length) };
}

/** What the example goes on with, in a process that has nothing of ours. */
function goesOnWith(folder: string, prompt: readonly number[]): number[] {
  const args = [EXAMPLE, folder, '16', ...prompt.map(String)];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.trim().split('\n').map(Number);
}

function filesIn(folder: string): Map<string, string> {
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'latin1')]));
}

/** Exit code 1 and one line that says what is wrong. */
function expectRefusal({ code, stdout, stderr }: Outcome, message: RegExp): void {
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split('\n').length, stderr).toBe(1);
  expect(stderr).toMatch(/^heddle: /);
  expect(stdout).toBe('');
  expect(code).toBe(1);
}

describe('onnx', () => {
  test('the example has 30 lines, and imports only Node.js and ONNX Runtime', () => {
    const source = readFileSync(EXAMPLE, 'utf8');
    expect(source.trimEnd().split('\n').length).toBeLessThanOrEqual(30);
    const modules = [...source.matchAll(/(?:from|import|require)\b[^'"\n]*['"]([^'"]+)['"]/g)].map(
      (m) => m[1]!,
    );
    expect(modules).toContain('onnxruntime-node');
    expect(modules.filter((name) => name !== 'onnxruntime-node' && !name.startsWith('node:'))).toEqual([]);
  });

  test.each(['granitemoehybrid', 'jamba', 'qwen3_next', 'mamba2'])(
    '%s goes on as in transformers',
    async (name) => {
      const { folder, prompt, greedy } = await readReference('hf', name);
      const { code, stderr } = await heddle(['export', folder, out, '--to', 'onnx']);
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(
        /out: \w+ as onnx, \d+ kB: config\.json, generation_config\.json, model\.onnx, model\.onnx\.json, model\.safetensors\n/,
      );
      expect(stderr).toMatch(/use it: node .*onnx-generate\.mjs .*out <how many tokens> <id>/);
      expect(goesOnWith(out, prompt)).toEqual(greedy.slice(0, 16));
    },
  );

  test('a model with selective attention continues as in Heddle, also in float16', async () => {
    const { folder, prompt, greedy } = await ours({ pattern: 'M-M-S-', ropeTheta: 10_000 });
    expect(new Set(greedy).size).toBeGreaterThan(1);
    expect((await heddle(['export', folder, out, '--to', 'onnx'])).code).toBe(0);
    expect(goesOnWith(out, prompt)).toEqual(greedy);
    const whole = statSync(join(out, 'model.safetensors')).size;
    expect((await heddle(['export', folder, out, '--to', 'onnx', '--dtype', 'float16'])).code).toBe(0);
    expect(statSync(join(out, 'model.safetensors')).size).toBeLessThan(0.7 * whole);
    expect(goesOnWith(out, prompt).length).toBe(16);
  });
});

describe('hf', () => {
  test('a Heddle model becomes a complete checkpoint of a family, with the same bytes each time', async () => {
    const { folder } = await ours({ pattern: 'M-*-', ropeTheta: 10_000, bosTokenId: 1 });
    const before = filesIn(folder);
    const { code, stderr } = await heddle(['export', folder, out, '--to', 'hf']);
    expect(code).toBe(0);
    const [what, use, ...notes] = stderr.trimEnd().split('\n');
    expect(what).toMatch(
      /out: granitemoehybrid as hf, \d+\.?\d* kB: config\.json, generation_config\.json, model\.safetensors, tokenizer\.json, tokenizer_config\.json$/,
    );
    expect(use).toBe(
      `use it: AutoModelForCausalLM.from_pretrained("${out}") in transformers, or vllm serve ${out}`,
    );
    expect(notes.every((note) => note.startsWith('note: '))).toBe(true);
    expect(JSON.parse(readFileSync(join(out, 'generation_config.json'), 'utf8'))).toEqual({
      bos_token_id: 1,
      eos_token_id: 0,
      pad_token_id: 0,
    });
    expect(filesIn(folder)).toEqual(before);

    const again = join(here, 'again');
    expect((await heddle(['export', out, again])).code).toBe(0);
    expect(filesIn(again)).toEqual(filesIn(out));
  });

  test('a model without attention disables the cache in the key that transformers reads', async () => {
    const { folder } = await ours({ pattern: 'M-M-' });
    expect((await heddle(['export', folder, out, '--to', 'hf'])).stderr).toMatch(/note: .* keeps no cache/);
    for (const name of ['config.json', 'generation_config.json']) {
      expect(JSON.parse(readFileSync(join(out, name), 'utf8')), name).toMatchObject({ use_cache: false });
    }
  });

  test('the other files of a checkpoint are copied unchanged, and nothing else', async () => {
    const { folder } = await ours({ pattern: 'M-*-' });
    const texts = {
      'chat_template.jinja': '{{ messages }}',
      'generation_config.json': '{"eos_token_id": [0, 5],   "top_p": 0.9}',
      'special_tokens_map.json': '{}',
      'LICENSE.txt': 'Do as you like.',
    };
    for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text);
    writeFileSync(join(folder, 'optimizer.safetensors'), 'what only training needs');
    expect((await heddle(['export', folder, out])).code).toBe(0);
    for (const [name, text] of Object.entries(texts))
      expect(readFileSync(join(out, name), 'utf8')).toBe(text);
    expect(readdirSync(out)).not.toContain('optimizer.safetensors');
    expect(filesIn(out).get('config.json')).toBe(filesIn(folder).get('config.json'));
    expect(filesIn(out).get('model.safetensors')).toBe(filesIn(folder).get('model.safetensors'));
  });
});

describe('refuses', () => {
  test('a pattern that no family has, and lists the possible ones', async () => {
    const { folder } = await ours({ pattern: 'M-S-' });
    expectRefusal(
      await heddle(['export', folder, out, '--to', 'hf']),
      /ours cannot be written as hf: the pattern M-S- has selective attention \(S\).*ONNX takes every pattern/,
    );
    expect(readdirSync(here)).toEqual(['ours']);
  });

  test('to overwrite files of others, or its own input', async () => {
    const { folder } = await ours({ pattern: 'M-*-' });
    mkdirSync(out);
    writeFileSync(join(out, 'thesis.txt'), 'years of work');
    expectRefusal(await heddle(['export', folder, out]), /has 1 entry that Heddle did not write/);
    expect(readdirSync(out)).toEqual(['thesis.txt']);
    for (const target of [folder, here, join(out, '..', 'ours')]) {
      expectRefusal(
        await heddle(['export', folder, target]),
        /would replace the model in .*: name another folder/,
      );
    }
    expect(readdirSync(folder)).toContain('model.safetensors');
  });
});
