/**
 * Whether anything is lost or doubled when workers and PostgreSQL are killed. Usage, as an ordinary user, since PostgreSQL refuses root:
 *   node bench/archive/crashes.mjs [--bin /usr/lib/postgresql/15/bin] [--kills 12] [--every 2] file...
 *
 * A PostgreSQL of its own is made in a temporary folder. The files are read into one database undisturbed, and into another by two workers,
 * of which every so many seconds one is killed with SIGKILL and started again; each fourth time it is PostgreSQL. In the end pages and
 * passages are counted, and all that was read is compared with the undisturbed run.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Archive, scan } from '../../dist/archive/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bin: { type: 'string', default: '/usr/lib/postgresql/15/bin' },
    kills: { type: 'string', default: '12' },
    every: { type: 'string', default: '2' },
  },
});
const files = positionals.map((file) => resolve(file));
const command = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'heddle-crashes-'));
const data = join(root, 'data');
const run = (program, ...args) =>
  execFileSync(join(values.bin, program), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const port = await new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port: free } = server.address();
    server.close(() => done(free));
  });
});
const placeOf = (name) => `postgres://heddle@127.0.0.1:${port}/${name}`;

async function startDatabase() {
  // What is left of one that was killed goes within seconds.
  for (let tries = 0; ; tries++) {
    try {
      run(
        'pg_ctl',
        '-w',
        '-D',
        data,
        '-l',
        join(root, 'log'),
        '-o',
        `-p ${port} -k ${root} -c listen_addresses=127.0.0.1`,
        'start',
      );
      return;
    } catch (error) {
      if (tries === 20) throw error;
      await sleep(500);
    }
  }
}

/** An archive in which all files wait to be read. */
async function queued(name) {
  run('createdb', '-h', '127.0.0.1', '-p', String(port), '-U', 'heddle', name);
  const archive = await Archive.open({ place: placeOf(name), states: join(root, 'states'), create: true });
  for (const file of files) {
    await archive.addRoot(file);
    await scan(archive, file);
  }
  return archive;
}

function startWorker(name) {
  const worker = spawn(
    process.execPath,
    [
      command,
      'archive',
      'work',
      '--archive',
      placeOf(name),
      '--states',
      join(root, 'states'),
      '--lanes',
      '1',
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((done) => worker.on('exit', done));
  return { kill: () => worker.kill('SIGKILL'), ended };
}

/** How much there is, how much of it more than once, and a digest of all of it. */
async function contents(archive) {
  const [row] = await archive.database.query(
    `SELECT (SELECT count(*)::int FROM archive_pages) AS pages,
       (SELECT sum(pages)::int FROM archive_documents) AS expected,
       (SELECT count(*)::int FROM archive_passages) AS passages,
       (SELECT count(*)::int FROM archive_stretches) AS waiting,
       (SELECT count(*)::int FROM (SELECT 1 FROM archive_pages GROUP BY content, page HAVING count(*) > 1) d) AS doubled_pages,
       (SELECT count(*)::int FROM (SELECT 1 FROM archive_passages GROUP BY content, page, part HAVING count(*) > 1) d) AS doubled_passages,
       (SELECT md5(string_agg(md5(content || ' ' || page || ' ' || state || ' ' || coalesce(why, '')), '' ORDER BY content, page)) FROM archive_pages) AS of_pages,
       (SELECT md5(string_agg(md5(content || ' ' || page || ' ' || part || ' ' || text || heading || boxes::text || words::text), '' ORDER BY content, page, part)) FROM archive_passages) AS of_passages`,
  );
  return row;
}

run('initdb', '-D', data, '-U', 'heddle', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8');
await startDatabase();
try {
  const calm = await queued('calm');
  await startWorker('calm').ended;
  const wanted = await contents(calm);
  await calm.close();

  const archive = await queued('killed');
  const workers = [startWorker('killed'), startWorker('killed')];
  let databases = 0;
  let kills = 0;
  for (; kills < Number(values.kills); kills++) {
    await sleep(Number(values.every) * 1000);
    if (kills % 4 === 3) {
      process.kill(Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]), 'SIGKILL');
      databases++;
      await sleep(300);
      await startDatabase();
    } else {
      workers[kills % 2].kill();
      await workers[kills % 2].ended;
      workers[kills % 2] = startWorker('killed');
    }
    const { pages, waiting } = await contents(archive);
    console.log(`kill ${kills + 1}: ${pages} pages are there, ${waiting} pieces of work left`);
  }
  await Promise.all(workers.map(({ ended }) => ended));
  const found = await contents(archive);
  await archive.close();
  console.log(`workers killed ${kills - databases} times, PostgreSQL ${databases} times`);
  console.log(`undisturbed  ${JSON.stringify(wanted)}`);
  console.log(`killed       ${JSON.stringify(found)}`);
  const same = JSON.stringify(found) === JSON.stringify(wanted) && found.pages === found.expected;
  console.log(same ? 'nothing is lost, and nothing is there twice' : 'THESE DIFFER');
  process.exitCode = same ? 0 : 1;
} finally {
  run('pg_ctl', '-D', data, '-m', 'immediate', 'stop');
  rmSync(root, { recursive: true, force: true });
}
