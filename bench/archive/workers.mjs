/**
 * What several workers do on one PostgreSQL beside one. Usage: node bench/archive/workers.mjs postgres://user@host/empty-database
 *   [--workers 1,2] [--rounds 3] [--cores] file...
 *
 * Each worker is `heddle archive work --lanes 1`: a process that reads pages and one that writes them, which together may use more than one
 * core. `--cores` gives each worker one core of its own, as a machine with one core has it (by `taskset`, on Linux); the database may use all
 * of them. By turns the files are read anew. The rate is that from the moment when all workers have pages until the last page is written, so
 * that the start of processes does not count. All rounds are printed.
 */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Archive, scan } from '../../dist/archive/index.js';
import { median } from '../../dist/evidence/section.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    workers: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '3' },
    cores: { type: 'boolean', default: false },
  },
});
const [place, ...files] = positionals;
const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const archive = await Archive.open({ place, create: true });
const [{ used }] = await archive.database.query(
  'SELECT EXISTS (SELECT 1 FROM archive_roots UNION ALL SELECT 1 FROM archive_documents) AS used',
);
if (used) {
  await archive.close();
  console.error(
    'this database holds an archive, which would be emptied: name an empty database (createdb makes one)',
  );
  process.exit(1);
}

/** Leaves the database as it was found. */
const empty = () =>
  archive.database.query(
    'TRUNCATE archive_roots, archive_files, archive_documents, archive_stretches, archive_pages, archive_passages, archive_readings, archive_vectors, archive_orphans',
  );

async function rateOf(workers) {
  await empty();
  for (const file of files) {
    await archive.addRoot(resolve(file));
    await scan(archive, resolve(file));
  }
  const line = [process.execPath, command, 'archive', 'work', '--archive', place, '--lanes', '1'];
  const ended = Array.from({ length: workers }, (_, core) => {
    const [program, ...args] = values.cores ? ['taskset', '-c', String(core), ...line] : line;
    const worker = spawn(program, args, { stdio: 'ignore' });
    return new Promise((done) => worker.on('exit', done));
  });
  let first;
  for (;;) {
    const [row] = await archive.database.query(
      `SELECT (SELECT count(*)::int FROM archive_pages) AS pages, (SELECT count(*)::int FROM archive_stretches) AS left,
         (SELECT count(DISTINCT worker)::int FROM archive_stretches) AS reading`,
    );
    const now = performance.now();
    if (!first && row.pages > 0 && row.reading === workers) first = { now, pages: row.pages };
    if (row.left === 0) {
      await Promise.all(ended);
      return ((row.pages - first.pages) / (now - first.now)) * 1000;
    }
    // Asking costs the database time too.
    await sleep(100);
  }
}

const counts = values.workers.split(',').map(Number);
const rates = counts.map(() => []);
try {
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [i, count] of counts.entries()) rates[i].push(await rateOf(count));
  for (const [i, count] of counts.entries())
    console.log(
      `${count} worker${count === 1 ? '' : 's'}: ${median(rates[i]).toFixed(0)} pages/s, ${median(rates[i].map((rate, round) => rate / rates[0][round])).toFixed(2)} x (median of ${rates[i].length}; ${rates[i].map((rate, round) => `${rate.toFixed(0)}, ${(rate / rates[0][round]).toFixed(2)} x`).join('; ')})`,
    );
} finally {
  await empty();
  await archive.close();
}
