/** `npm start`: the studio in a terminal, and the demo without one. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** Runs a command as if in a terminal: part of every Debian and every macOS, whose options differ. */
const SCRIPT = '/usr/bin/script';
const terminal = process.platform === 'linux' && existsSync(SCRIPT);

beforeAll(build);

test('without a terminal the model generates a text, its costs are measured, and the command ends', async () => {
  const { code, stdout } = await heddle(['start', 'My fellow citizens', '--max-tokens', '3']);
  expect(stdout).toMatch(/\nMy fellow citizens/);
  expect(stdout).toMatch(/3 tokens in .* s: /);
  expect(stdout).toMatch(/memory after 65,536 tokens +\S+ MB +\S+ GB +\S+ smaller/);
  expect(stdout).not.toMatch(/http:/);
  expect(code).toBe(0);
});

test.skipIf(!terminal)('in a terminal it serves the studio until Ctrl-C', async () => {
  const here = mkdtempSync(join(tmpdir(), 'heddle-start-'));
  const { CI: _, ...environment } = process.env;
  // A shell that stays between would say how it was ended itself.
  const command = `exec ${process.execPath} ${main} start --no-open --port 0 --max-tokens 8`;
  const child = spawn(SCRIPT, ['-qfec', command, '/dev/null'], { cwd: here, env: environment });
  let said = '';
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  try {
    await new Promise<void>((resolve, reject) => {
      void ended.then((code) => reject(new Error(`it ended with ${code}: ${said}`)));
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.includes('Ctrl-C ends the server')) resolve();
      });
    });
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(said)!;
    expect(said).toContain(`curl ${url}/v1/completions`);
    expect(said).toMatch(/The state of our Union is\S* \S/);
    expect(said).toMatch(/8 tokens at .* tokens\/s\. This sequence holds 1\.6\d MB/);
    expect(await (await fetch(url)).text()).toContain('<title>Heddle studio</title>');
    const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(models.data.map(({ id }) => id)).toEqual(['sotu-hybrid']);
    child.stdin.write('\x03');
    expect(await ended).toBe(0);
    await expect(fetch(url)).rejects.toThrow();
  } finally {
    child.kill();
    rmSync(here, { recursive: true, force: true });
  }
});
