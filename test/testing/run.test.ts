/** What a test leaves behind is gone with the run: all temporary files are in its folder. */
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RUN_FOLDER } from './run.js';

test('temporary files of tests and of commands are in the folder of the run', () => {
  const place = join(process.env[RUN_FOLDER]!, 'tmp');
  expect(tmpdir()).toBe(place);
  const printed = spawnSync(process.execPath, ['-p', 'require("node:os").tmpdir()'], { encoding: 'utf8' });
  expect(printed.stdout.trim()).toBe(place);
});
