/** The `heddle` command itself: its help, its version, and its errors for wrong calls. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

beforeAll(build);

const source = readFileSync(new URL('../src/cli/program.ts', import.meta.url), 'utf8');
const COMMANDS = [...source.matchAll(/^ {4}name: '(\w+)'/gm)].map(([, name]) => name!);

test.each([[], ['--help'], ['-h'], ['help'], ['help', 'help']])(
  'heddle %s lists the commands',
  async (...args) => {
    const { code, stdout, stderr } = await heddle(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: node dist\/cli\/main\.js \[options\] \[command\]/);
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name} `, 'm'));
  },
);

test('every command has a module that configures it', () => {
  const loaded = [...source.matchAll(/import\('\.\/(\w+)\.js'\)/g)].map(([, name]) => name!);
  expect(loaded).toEqual(COMMANDS);
  const files = readdirSync(new URL('../src/cli', import.meta.url)).filter((name) => name.endsWith('.ts'));
  const modules = files.filter((name) =>
    readFileSync(new URL(`../src/cli/${name}`, import.meta.url), 'utf8').includes(
      'export function configure(',
    ),
  );
  expect(modules.sort()).toEqual(COMMANDS.map((name) => `${name}.ts`).sort());
});

test('help covers commands of commands', async () => {
  const [help, option] = await Promise.all([
    heddle(['help', 'archive', 'search']),
    heddle(['archive', 'search', '--help']),
  ]);
  expect(help.stdout).toMatch(/^Usage: node dist\/cli\/main\.js archive search /);
  expect(option).toEqual(help);
  for (const args of [['nothing'], ['archive', 'nothing']]) {
    const refused = await heddle(['help', ...args]);
    expect([refused.code, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toMatch(/^heddle: unknown command 'nothing'\nnext: {2}.* help.*\n$/);
  }
});

test.each(COMMANDS)('help %s lists arguments and options', async (name) => {
  const [help, option] = await Promise.all([heddle(['help', name]), heddle([name, '--help'])]);
  expect({ code: help.code, stderr: help.stderr }).toEqual({ code: 0, stderr: '' });
  expect(option).toEqual(help);
  expect(help.stdout).toMatch(new RegExp(`^Usage: node dist/cli/main\\.js ${name} `));
  // What is called without a word more has nothing to tell but its options.
  expect(help.stdout).toMatch(['devices', 'evidence'].includes(name) ? /Options:/ : /Arguments:|Commands:/);
});

test('the version is printed without loading other modules', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(await heddle(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  const imports = [...source.matchAll(/^import .* from '(.*)';$/gm)].map(([, from]) => from);
  expect(imports).toEqual([
    'node:module',
    'commander',
    '../checkpoint/wording.js',
    '../command-line.js',
    '../errors.js',
    '../platform/unreadable.js',
    './help.js',
  ]);
});

test('devices are listed without the messages of drivers', async () => {
  const { code, stdout, stderr } = await heddle(['devices', '--json']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const names = (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name);
  expect(names).toEqual(['cpu', 'wasm', 'webgpu', 'cuda']);
});

test('a wrong call is refused in the same form as other errors', async () => {
  const unknown = await heddle(['chta']);
  expect(unknown.code).toBe(1);
  expect(unknown.stderr).toBe(
    "heddle: unknown command 'chta'\n(Did you mean chat?)\nnext:  node dist/cli/main.js help\n",
  );
  const option = await heddle(['chat', 'sotu-hybrid', '--sed', '3']);
  expect(option.code).toBe(1);
  expect(option.stderr).toBe(
    "heddle: unknown option '--sed'\n(Did you mean --seed?)\nnext:  node dist/cli/main.js help chat\n",
  );
  for (const [flag, value] of [
    ['--port', '99999'],
    ['--answers', '0'],
    ['--context', '0'],
  ] as const) {
    const { code, stderr } = await heddle(['serve', 'sotu-hybrid', flag, value]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(`argument '${value}' is invalid. expected a whole number`),
    ]);
  }
  const stop = await heddle(['generate', 'sotu-hybrid', '--prompt', 'a', '--stop', '']);
  expect([stop.code, stop.stdout]).toEqual([1, '']);
  const missing = await heddle(['quantize']);
  expect(missing.code).toBe(1);
  expect(missing.stderr).toBe(
    "heddle: missing required argument 'model'\nnext:  node dist/cli/main.js help quantize\n",
  );
  const below = await heddle(['archive', 'search']);
  expect(below.stderr).toBe(
    "heddle: missing required argument 'words'\nnext:  node dist/cli/main.js archive help search\n",
  );
});

// Linux has a file that is always full.
test.runIf(existsSync('/dev/full'))('a full disk under standard output is reported', () => {
  const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
  const full = openSync('/dev/full', 'w');
  const run = (stdio: ('ignore' | 'pipe' | number)[], ...args: string[]) =>
    spawnSync(process.execPath, [main, ...args], { stdio, encoding: 'utf8' });
  const result = run(['ignore', full, 'pipe'], 'info', 'sotu-hybrid');
  expect([result.status, result.stderr]).toEqual([
    1,
    'heddle: Could not write to standard output: the disk is full.\n',
  ]);
  // What is said beside a result may be lost.
  const quiet = run(['ignore', 'pipe', full], 'generate', 'sotu-hybrid', '-p', 'My', '--max-tokens', '2');
  expect([quiet.status, quiet.stdout.startsWith('My')]).toEqual([0, true]);
  closeSync(full);
});

test.each(['generate', 'chat', 'explain'])('%s refuses standard input that is not UTF-8', (command) => {
  const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
  const input = Buffer.from([0x6c, 0xe9, 0x20, 0x0a]);
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, command, 'sotu-hybrid'], {
    input,
    encoding: 'utf8',
  });
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/heddle: standard input is not UTF-8 text: convert it to UTF-8\n$/);
});

test.each([
  [['generate', 'sotu-hybrid', '--seed', '99999999999999999999'], /expected a whole number from 0 to 9,007,/],
  [
    ['train', 'sotu', '-o', 'none', '--steps', '-3'],
    /'-3' is invalid. expected a whole number, 0 or more\.$/m,
  ],
  [
    ['serve', 'sotu-hybrid', '--data', 'package.json'],
    /--data package\.json is a file, and a folder is expected/,
  ],
  [['train', 'sotu', '-o', 'none', '--devices', '2'], /GPUs on --device cuda, and the device is cpu/],
  [['train', 'sotu', '-o', 'none', '--precision', 'bfloat16'], /is for --device cuda, and the device is cpu/],
  [['generate', 'sotu-hybrid', '--precision', 'bfloat16'], /is for --device cuda, and the device is cpu/],
  [
    ['explain', 'sotu-hybrid', '--text', 'My', '--out', 'package.json/page.html'],
    /Could not write package\.json\/page\.html: a file stands where a folder is needed/,
  ],
  [['train', 'sotu', '-o', 'none', '--shard', 'full'], /GPUs on --device cuda, and the device is cpu/],
  [
    ['archive', 'add', 'docs', '--archive', 'package.json'],
    /package\.json cannot be used: a file of this name is there/,
  ],
])('%j is refused', async (args, words) => {
  const { code, stdout, stderr } = await heddle(args);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(words);
  expect(stderr).toMatch(/^heddle: /);
  expect(stderr).not.toMatch(/\n {4}at /);
});
