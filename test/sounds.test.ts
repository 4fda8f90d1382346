/** Sounds on the command line: a folder of classes becomes a classifier; unreadable files are reported. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../src/nn/index.js';
import { type WavForm, wavOf } from '../src/signals/testing/wav.js';
import { build, heddle } from './testing/heddle.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-sounds-command-'));
const at = (...names: string[]): string => join(here, ...names);
const random = new Random(9);
/** A tone that rises or falls by an octave, from anywhere: no single frame tells which. */
function sing(kind: 'rising' | 'falling', path: string, seconds = 0.4, form: WavForm = {}): void {
  const { rate = 2000 } = form;
  const base = 150 + 150 * random.uniform();
  let phase = 0;
  const samples = Array.from({ length: Math.round(seconds * rate) }, (_, i) => {
    const share = i / (seconds * rate);
    phase += (2 * Math.PI * base * 2 ** (kind === 'rising' ? share : 1 - share)) / rate;
    return 0.5 * Math.sin(phase);
  });
  writeFileSync(path, wavOf(samples, { rate, ...form }));
}

beforeAll(() => {
  build();
  for (const kind of ['rising', 'falling'] as const) {
    mkdirSync(at('tones', kind), { recursive: true });
    for (let i = 0; i < 40; i++) sing(kind, at('tones', kind, `${i}.wav`), 0.3 + 0.005 * i);
  }
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

const train = (folder: string, out: string, ...args: string[]) =>
  heddle([
    'train',
    folder,
    '--out',
    out,
    '--steps',
    '60',
    '--warmup',
    '5',
    '--threads',
    '1',
    '--validation',
    '0.2',
    ...args,
  ]);

test('two classes of tones are learned and classified', async () => {
  writeFileSync(at('tones', 'rising', 'silent.wav'), wavOf(new Array(800).fill(0), { rate: 2000 }));
  writeFileSync(at('tones', 'falling', 'cover.png'), 'x');
  const square = Array.from({ length: 800 }, (_, i) => (i % 10 < 5 ? 1 : -1));
  writeFileSync(at('tones', 'falling', 'loud.wav'), wavOf(square, { rate: 2000 }));
  const { code, stderr } = await train(at('tones'), at('run'));
  expect(stderr).toMatch(
    /sounds {6}81 of 2 classes \(falling, rising\), [\d.]+ s at 2000 samples a second; 16 are held out/,
  );
  expect(stderr).toMatch(/left out .*silent\.wav is silent/);
  expect(stderr).toMatch(/left out .*cover\.png/);
  expect(stderr).toMatch(/note .*loud\.wav is clipped/);
  expect(stderr).toMatch(/done: validation accuracy (8[5-9]|9\d|100)\.\d %/);
  expect(code).toBe(0);

  sing('rising', at('a.wav'));
  sing('falling', at('b.wav'), 0.5, { bits: 24 });
  sing('falling', at('slow.wav'), 0.5, { rate: 1000 });
  const said = await heddle([
    'classify',
    at('run'),
    at('a.wav'),
    at('slow.wav'),
    at('tones', 'rising', 'silent.wav'),
    at('b.wav'),
  ]);
  const lines = said.stdout.trim().split('\n');
  expect(lines.length).toBe(3);
  expect(lines[1]).toMatch(/a\.wav,rising,/);
  expect(lines[2]).toMatch(/b\.wav,falling,/);
  expect(said.stderr).toMatch(/slow\.wav has 1000 samples a second, and the model hears 2000/);
  expect(said.stderr).toMatch(/silent\.wav is silent/);
  expect(said.code).toBe(1);
  const info = await heddle(['info', at('run')]);
  expect(info.stdout).toMatch(/after +10 s +1 min 00 s +10 min 00 s +1 h 00 min/);
  expect(info.stdout).not.toMatch(/token/);
  expect(info.stdout).toMatch(
    /hears 2000 samples a second in frames of 32 ms every 16 ms \(log-mel\) and tells falling, rising/,
  );
});

test.each<[string, (folder: string) => void, string[], RegExp]>([
  [
    'another rate',
    (f) => sing('rising', join(f, 'rising', 'odd.wav'), 0.4, { rate: 1500 }),
    [],
    /odd\.wav has 1500 samples a second and .* 2000: convert all to one rate/,
  ],
  ['an option of images', () => undefined, ['--image-size', '8'], /--image-size does not go with sounds/],
  [
    'a class of broken files',
    (f) => {
      mkdirSync(join(f, 'humming'));
      writeFileSync(join(f, 'humming', 'a.wav'), 'RIFF');
    },
    [],
    /of the class humming no sound can be read: .*a\.wav is not a supported sound/,
  ],
])('%s is refused, and writes nothing', async (name, change, args, message) => {
  cpSync(at('tones'), at(name), { recursive: true });
  change(at(name));
  const { code, stderr } = await train(at(name), at('none'), ...args);
  expect(stderr.trim().split('\n').at(-1)).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(at('none'))).toBe(false);
});
