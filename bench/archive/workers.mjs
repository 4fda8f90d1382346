/**
 * What several workers do on one PostgreSQL beside one. Usage: node bench/archive/workers.mjs postgres://user@host/empty-database
 *   [--workers 1,2] [--rounds 3] [--cores] file...
 *
 * Each worker is `heddle archive work --lanes 1`: a process that reads pages and one that writes them, which together may use more than one
 * core. `--cores` gives each worker one core of its own, as a machine with one core has it (by `taskset`, on Linux); the database may use all
 * of them. By turns the files are read anew. The rate is that from the moment when all workers have pages until the last page is written, so
 * that the start of processes does not count. All rounds are printed.
 *
 * Where the database is on this machine too (on Linux), it is also printed how many cores are busy during that time, with the database or with
 * workers: if one worker keeps more than half of the cores busy, two cannot do twice as much. The share of looks at which a connection waited
 * for a lock tells whether workers hold up each other.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
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
    'TRUNCATE archive_roots, archive_files, archive_uploads, archive_documents, archive_stretches, archive_pages, archive_passages, archive_readings, archive_vectors, archive_orphans',
  );

/** What each kind of process is called with. */
const PROGRAMS = { readers: /page-process/, workers: / archive work /, database: /^(\S*\/)?postgres\b/ };

/** Seconds of CPU time that processes of this machine have used, by their ids; empty where the system does not tell. */
function cpuSeconds() {
  const seconds = new Map();
  if (process.platform !== 'linux') return seconds;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      const kind = Object.keys(PROGRAMS).find((each) => PROGRAMS[each].test(line));
      if (!kind || Number(pid) === process.pid) continue;
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // Behind the name in brackets: user time is the 12th field, system time the 13th, in hundredths of a second.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      seconds.set(pid, { kind, used: (Number(fields[11]) + Number(fields[12])) / 100 });
    } catch {
      // It has ended meanwhile.
    }
  }
  return seconds;
}

/** How many cores were busy between two looks, by what with. */
function busyCores(before, after) {
  const seconds = (after.now - before.now) / 1000;
  return Object.keys(PROGRAMS).map((kind) => {
    let used = 0;
    for (const [pid, now] of after.cpu)
      if (now.kind === kind) used += now.used - (before.cpu.get(pid)?.used ?? 0);
    return `${kind} ${(used / seconds).toFixed(2)}`;
  });
}

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
  let last;
  let looks = 0;
  let locked = 0;
  for (;;) {
    const [row] = await archive.database.query(
      `SELECT (SELECT count(*)::int FROM archive_pages) AS pages, (SELECT count(*)::int FROM archive_stretches) AS left,
         (SELECT count(DISTINCT worker)::int FROM archive_stretches) AS reading,
         (SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') AS locked`,
    );
    const now = performance.now();
    if (row.left === 0) {
      await Promise.all(ended);
      const busy = last?.cpu.size ? `; busy cores: ${busyCores(first, last).join(', ')}` : '';
      return {
        rate: ((row.pages - first.pages) / (now - first.now)) * 1000,
        told: `${workers} worker${workers === 1 ? '' : 's'}${busy}; a connection waits for a lock in ${((100 * locked) / looks).toFixed(0)} % of ${looks} looks`,
      };
    }
    if (!first && row.pages > 0 && row.reading === workers)
      first = { now, pages: row.pages, cpu: cpuSeconds() };
    else if (first) {
      // Workers that have ended tell nothing any more, so the last look at which all of them read is the one that counts.
      if (row.reading === workers) last = { now, cpu: cpuSeconds() };
      looks++;
      if (row.locked > 0) locked++;
    }
    // Asking costs the database time too.
    await sleep(200);
  }
}

const counts = values.workers.split(',').map(Number);
const rates = counts.map(() => []);
try {
  for (let round = 0; round < Number(values.rounds); round++)
    for (const [i, count] of counts.entries()) {
      const { rate, told } = await rateOf(count);
      rates[i].push(rate);
      console.log(`${rate.toFixed(0)} pages/s: ${told}`);
    }
  for (const [i, count] of counts.entries())
    console.log(
      `${count} worker${count === 1 ? '' : 's'}: ${median(rates[i]).toFixed(0)} pages/s, ${median(rates[i].map((rate, round) => rate / rates[0][round])).toFixed(2)} x (median of ${rates[i].length}; ${rates[i].map((rate, round) => `${rate.toFixed(0)}, ${(rate / rates[0][round]).toFixed(2)} x`).join('; ')})`,
    );
} finally {
  await empty();
  await archive.close();
}
