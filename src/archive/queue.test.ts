/** Who reads what, when a folder changes hands. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Archive } from './archive.js';
import { scan } from './scan.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-queue-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('who opens a folder gives back the work of processes that have ended, and no other', async () => {
  const place = join(root, 'archive');
  for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(root, `${name}.txt`), `Document ${name}.`);
  const first = await Archive.open({ place, create: true });
  await scan(first, root);
  const borrower = await Archive.open({ place });
  expect([first.database.shared, borrower.database.shared]).toEqual([false, true]);
  const mine = (await borrower.queue.claim())!;
  const ended = `${hostname()}-${spawnSync(process.execPath, ['--version']).pid}-0123abcd`;
  const away = `another-machine-${process.pid}-0123abcd`;
  for (const worker of [ended, away]) {
    await first.database.query(
      `UPDATE archive_stretches SET worker = $1, until = now() + interval '1 hour'
       WHERE id = (SELECT min(id) FROM archive_stretches WHERE worker IS NULL)`,
      [worker],
    );
  }
  await first.close();
  // Before the borrower says anything.
  const next = await Archive.open({ place });
  expect(next.database.shared).toBe(false);
  const workers = await next.database.query<{ worker: string | null }>(
    'SELECT worker FROM archive_stretches ORDER BY worker',
  );
  expect(workers.map(({ worker }) => worker).sort()).toEqual(
    [away, borrower.queue.worker, null, null].sort(),
  );
  await borrower.queue.finish({ ...mine, last: 1 }, []);
  await borrower.close();
  await next.close();
});
