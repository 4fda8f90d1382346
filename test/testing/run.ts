/** A folder that the processes of one run of the tests share, for what is done once. It is gone when they end. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

/** The variable that says where it is. */
export const RUN_FOLDER = 'HEDDLE_TEST_RUN';

export default function setup(project: TestProject): () => void {
  let folder = '';
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const make = (): void => {
    folder = mkdtempSync(join(tmpdir(), 'heddle-test-run-'));
    process.env[RUN_FOLDER] = folder;
  };
  make();
  project.onTestsRerun(() => {
    remove();
    make();
  });
  return remove;
}
