/**
 * A folder that the processes of one run of the tests share: for what is done once, and for all temporary files, theirs and those of the commands
 * that they start. It is gone when they end.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

/** The variable that says where it is. */
export const RUN_FOLDER = 'HEDDLE_TEST_RUN';

export default function setup(project: TestProject): () => void {
  const place = tmpdir();
  let folder = '';
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const make = (): void => {
    folder = mkdtempSync(join(place, 'heddle-test-run-'));
    process.env[RUN_FOLDER] = folder;
    // What a test leaves behind goes with the folder.
    for (const name of ['TMPDIR', 'TEMP', 'TMP']) process.env[name] = join(folder, 'tmp');
    mkdirSync(join(folder, 'tmp'));
  };
  make();
  project.onTestsRerun(() => {
    remove();
    make();
  });
  return remove;
}
