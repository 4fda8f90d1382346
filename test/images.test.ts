/** Images on the command line: a folder of classes becomes a classifier; unreadable files are reported. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import jpeg from 'jpeg-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadModel } from '../src/generate/index.js';
import { Random } from '../src/nn/index.js';
import { build, heddle } from './testing/heddle.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-images-command-'));
const at = (...names: string[]): string => join(here, ...names);
const random = new Random(4);
beforeAll(() => {
  build();
  for (const kind of ['disc', 'stripes'] as const) {
    mkdirSync(at('shapes', kind), { recursive: true });
    for (let i = 0; i < 40; i++) draw(kind, at('shapes', kind, `${i}.${i % 4 === 0 ? 'jpg' : 'png'}`));
  }
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

/** A disc, or stripes within one, somewhere: as bright on the whole, so that brightness alone tells nothing. */
function draw(kind: 'disc' | 'stripes', path: string, size = 12): void {
  const [x0, y0] = [4 + random.below(5), 4 + random.below(5)];
  const radius = 3 + random.uniform();
  const data = Uint8Array.from({ length: size * size }, (_, i) => {
    const [x, y] = [i % size, Math.floor(i / size)];
    if (Math.hypot(x - x0, y - y0) > radius) return 0;
    return kind === 'disc' ? 120 : x % 2 === 0 ? 240 : 0;
  });
  const rgba = Uint8Array.from({ length: 4 * data.length }, (_, i) => (i % 4 === 3 ? 255 : data[i >> 2]!));
  const bytes = path.endsWith('jpg')
    ? jpeg.encode({ width: size, height: size, data: rgba }, 95).data
    : encode({ width: size, height: size, data, channels: 1, depth: 8 });
  writeFileSync(path, bytes);
}

const train = (folder: string, out: string, ...args: string[]) =>
  heddle([
    'train',
    folder,
    '--out',
    out,
    '--steps',
    '40',
    '--warmup',
    '5',
    '--threads',
    '1',
    '--patch',
    '3',
    '--validation',
    '0.2',
    ...args,
  ]);

test('two classes of shapes are learned and classified', async () => {
  writeFileSync(at('shapes', 'README.md'), 'What there is.');
  writeFileSync(at('shapes', 'disc', 'torn.png'), 'this was an image');
  mkdirSync(at('shapes', 'nothing'));
  const { code, stderr } = await train(at('shapes'), at('run'));
  expect(stderr).toMatch(
    /images {6}80 of 2 classes \(disc, stripes\), 12 x 12 pixels in grey; 16 are held out/,
  );
  expect(stderr).toMatch(/left out .*torn\.png is not a supported image/);
  expect(stderr).toMatch(/left out .*nothing \(no class/);
  expect(stderr).toMatch(/left out .*README\.md/);
  expect(stderr).toMatch(/done: validation accuracy (9\d|100)\.\d %/);
  expect(code).toBe(0);

  draw('disc', at('new disc.png'));
  draw('stripes', at('new, striped.jpg'));
  draw('disc', at('large.png'), 13);
  writeFileSync(at('broken.png'), Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 1, 2, 3));
  const files = ['new disc.png', 'broken.png', 'large.png', 'new, striped.jpg'].map((name) => at(name));
  const said = await heddle(['classify', at('run'), ...files]);
  const lines = said.stdout.trim().split('\n');
  expect(lines[0]).toBe('file,class,probability');
  expect(lines[1]).toMatch(/new disc\.png,disc,(1\.0000|0\.[6-9]\d+)$/);
  expect(lines[2]).toMatch(/^".*new, striped\.jpg",stripes,(1\.0000|0\.[6-9]\d+)$/);
  expect(lines.length).toBe(3);
  expect(said.stderr).toMatch(/broken\.png is broken/);
  expect(said.stderr).toMatch(/large\.png has 13 x 13 pixels, and the model reads 12 x 12/);
  expect(said.code).toBe(1);
  expect((await heddle(['classify', at('run'), at('large.png'), '--resize'])).stdout).toMatch(
    /large\.png,disc,/,
  );

  const classifier = await loadModel(at('run'), { kind: 'images', threads: 1 });
  const { class: name, probability, classes } = await classifier.classify(files[0]!);
  expect(lines[1]!.endsWith(`${name},${probability.toFixed(4)}`)).toBe(true);
  expect(classes.reduce((sum, each) => sum + each.probability, 0)).toBeCloseTo(1, 6);
  await classifier.dispose();

  const info = await heddle(['info', at('run')]);
  expect(info.stdout).toMatch(
    /reads images of 12 x 12 pixels in grey in 16 patches of 3 x 3 and tells disc, stripes/,
  );
  expect((await heddle(['generate', at('run'), '-p', 'x'])).stderr).toMatch(
    /this is a model of images, not of text: run it with '.*classify'/,
  );
  expect((await heddle(['forecast', at('run'), at('run')])).stderr).toMatch(
    /this is a model of images, not of series/,
  );
  const resumed = await train(at('shapes'), at('run'), '--resume');
  expect(resumed.stderr).toMatch(/done: validation accuracy/);
});

/** A folder of images by class, changed. */
function folder(name: string, change: () => void): string {
  cpSync(at('shapes'), at(name), { recursive: true });
  change();
  return at(name);
}

test.each<[string, (name: string) => string, string[], RegExp]>([
  [
    'one class',
    (n) => folder(n, () => rmSync(at(n, 'disc'), { recursive: true })),
    [],
    /has one class alone, stripes/,
  ],
  [
    'another size',
    (n) => folder(n, () => draw('disc', at(n, 'stripes', 'odd.png'), 15)),
    [],
    /odd\.png has 15 x 15 pixels and .* 12 x 12: have all stretched to one size with --image-size/,
  ],
  [
    'a folder too high',
    (n) => folder(join(n, 'all'), () => undefined).slice(0, -4),
    [],
    /in subfolders of subfolders/,
  ],
  [
    'images side by side',
    (n) => {
      mkdirSync(at(n));
      draw('disc', at(n, 'a.png'));
      return at(n);
    },
    [],
    /side by side: put those of each class into a subfolder/,
  ],
  ['a patch that does not fit', () => at('shapes'), ['--patch', '5'], /must be multiples of patch \(5\)/],
  ['an option of text', () => at('shapes'), ['--lora', '4'], /--lora does not go with images/],
  ['an augmentation that is none', () => at('shapes'), ['--augment', 'shift'], /expected what is varied and/],
  ['an augmentation too far', () => at('shapes'), ['--augment', 'erase=2'], /erase is 2: expected a share/],
  ['a size that is none', () => at('shapes'), ['--image-size', '0'], /expected pixels from 1 to 4096/],
  [
    'all of a class broken',
    (n) =>
      folder(n, () => {
        rmSync(at(n, 'disc'), { recursive: true });
        mkdirSync(at(n, 'disc'));
        writeFileSync(at(n, 'disc', 'a.png'), 'x');
      }),
    [],
    /of the class disc no image can be read: .*a\.png is not a supported image/,
  ],
])('%s is refused, and writes nothing', async (name, make, args, message) => {
  const { code, stderr } = await train(make(name), at('none'), ...args);
  const lines = stderr.trim().split('\n');
  // Of a wrong option the last line tells which help to read.
  expect(lines.filter((line) => !line.startsWith('next:')).at(-1)).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(at('none'))).toBe(false);
});

test('images of other sizes are stretched and augmented on request', async () => {
  const mixed = folder('mixed', () => {
    draw('disc', at('mixed', 'disc', 'odd.png'), 15);
    mkdirSync(at('mixed', 'ring'));
    draw('disc', at('mixed', 'ring', 'alone.png'));
  });
  const varied = ['--augment', 'mirror,shift=1', '--average', '0.9', '--image-size', '9x6'];
  const { stderr } = await train(mixed, at('stretched'), ...varied, '--steps', '1');
  expect(stderr).toMatch(/82 of 3 classes .* 9 x 6 pixels/);
  expect(stderr).toMatch(/not tested {2}ring: of a class with one image alone nothing is held out/);
  expect(stderr).toMatch(/; 6 patches at once/);
  const goesOn = (...args: string[]) => train(mixed, at('stretched'), ...args, '--steps', '2', '--resume');
  expect((await goesOn('--image-size', '9x6', '--average', '0.9')).stderr).toMatch(/differs in augmentation/);
  expect((await goesOn(...varied, '--patch', '1')).stderr).toMatch(/--patch is 1, and the run in .* has 3: /);
  expect((await goesOn(...varied, '--design', 'vit')).stderr).toMatch(/another model than --design vit: /);
  // The order in which variations are named says nothing.
  const turned = ['--augment', 'shift=1,mirror', ...varied.slice(2)];
  expect((await goesOn(...turned)).stderr).toMatch(/done: validation accuracy/);
});
