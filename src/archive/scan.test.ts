/** Which files below a folder an archive takes: test/archive.test.ts has the others. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Archive } from './archive.js';
import { scan } from './scan.js';
import { addDocument } from './upload.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-scan-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('the folder that an archive lies in is added without the archive, whose uploads stay', async () => {
  const archive = await Archive.open({ place: join(root, 'library'), create: true });
  try {
    writeFileSync(join(root, 'mine.txt'), 'a file of a person');
    await addDocument(
      archive,
      'sent.txt',
      (async function* () {
        yield Buffer.from('a file that was uploaded');
      })(),
    );
    for (const [added, known] of [
      [1, 0],
      [0, 1],
    ]) {
      expect(await scan(archive, root)).toMatchObject({ added, known, gone: 0, leftOut: [], problems: [] });
    }
    expect((await archive.documents()).map(({ name }) => name)).toEqual(['mine.txt', 'sent.txt']);
  } finally {
    await archive.close();
  }
});
