import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { heddleCall, heddleCommand, quoted } from './command-line.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-command-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** Creates `dist/cli/main.js` as in a package or a clone, with a copy of the module under test beside it. */
function install(at: string): { main: string; call: (env: NodeJS.ProcessEnv, called?: string) => string } {
  const home = join(folder, at);
  mkdirSync(join(home, 'dist', 'cli'), { recursive: true });
  const source = execFileSync(
    process.execPath,
    [
      join(root, 'node_modules/typescript/bin/tsc'),
      ...['src/platform/node/command-line.ts', '--outDir', join(home, 'dist'), '--module', 'nodenext'],
      ...['--target', 'es2022', '--types', 'node', '--ignoreConfig', '--rootDir', 'src'],
    ],
    { cwd: root, encoding: 'utf8' },
  );
  expect(source).toBe('');
  writeFileSync(join(home, 'package.json'), '{"type":"module"}');
  const main = join(home, 'dist', 'cli', 'main.js');
  writeFileSync(
    main,
    `import { isMainThread, Worker } from 'node:worker_threads';
    import { heddleCommand } from '../platform/node/command-line.js';
    if (isMainThread && process.env.THREAD) new Worker(new URL(import.meta.url));
    else process.stdout.write(heddleCommand());`,
  );
  const call = (env: NodeJS.ProcessEnv, called = main): string =>
    execFileSync(process.execPath, [called], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: '/bin', ...env },
    });
  return { main, call };
}

describe('the command is the one that was called', () => {
  test('in a clone: by its script, or by its file', () => {
    const { main, call } = install('clone');
    const npm = { npm_package_name: 'heddle' };
    expect(call({ ...npm, npm_lifecycle_event: 'heddle' })).toBe('npm run -s heddle --');
    expect(call({ ...npm, npm_lifecycle_event: 'start' })).toBe('npm run -s heddle --');
    expect(call({ ...npm, npm_lifecycle_event: 'test' })).toBe('node clone/dist/cli/main.js');
    expect(call({})).toBe('node clone/dist/cli/main.js');
    expect(call({ THREAD: '1' }), 'in a thread').toBe('node clone/dist/cli/main.js');
    mkdirSync(join(folder, 'bin'));
    symlinkSync(main, join(folder, 'bin', 'heddle'));
    expect(call({ PATH: join(folder, 'bin') }, join(folder, 'bin', 'heddle'))).toBe('heddle');
  });

  test('from a package: by npx, or by its name if it is on the PATH', () => {
    const { main, call } = install('project/node_modules/heddle');
    const bin = join(folder, 'project', 'node_modules', '.bin');
    mkdirSync(bin);
    symlinkSync(main, join(bin, 'heddle'));
    expect(call({ PATH: bin, npm_lifecycle_event: 'npx' }, join(bin, 'heddle'))).toBe('npx heddle');
    expect(
      call({ PATH: bin, npm_package_name: 'theirs', npm_lifecycle_event: 'start' }, join(bin, 'heddle')),
    ).toBe('npx heddle');
    expect(call({}, join(bin, 'heddle'))).toBe('npx heddle');
    expect(call({ THREAD: '1' }, join(bin, 'heddle'))).toBe('npx heddle');
    const global = join(folder, 'global');
    mkdirSync(global);
    symlinkSync(main, join(global, 'heddle'));
    expect(call({ PATH: global }, join(global, 'heddle'))).toBe('heddle');
    expect(call({ PATH: global, THREAD: '1' }, join(global, 'heddle')), 'in a thread').toBe('heddle');
  });

  test('in a program that uses the library: as its author can call it', () => {
    expect(heddleCommand()).toBe('npx heddle');
    expect(heddleCall('chat', 'my model')).toBe("npx heddle chat 'my model'");
  });
});

test
  .skipIf(process.platform === 'win32')
  .each([
    'plain',
    'runs/a-b_c.d',
    'two words',
    "it's",
    '"quoted"',
    '$HOME',
    '`date`',
    'a;b',
    'a&b',
    '*',
    '(x)',
    '~user',
    'back\\slash',
    '<owner/name>',
    '',
    'été',
    'line\nend',
  ])('a shell reads %j as one word', (word) => {
  const script = `printf '%s|' ${quoted(word)}`;
  expect(execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' })).toBe(`${word}|`);
});
