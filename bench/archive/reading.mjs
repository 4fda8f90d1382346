/**
 * How fast documents are read into an archive, and how much memory that takes. Usage: node bench/archive/reading.mjs file... (on Linux).
 *
 * The files are read into a new archive in a folder (PGlite) with a process for each core. Every 100 pages the memory of this process and of
 * those that read is added up, as the system counts it (VmRSS). Opening the database is not counted.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Archive, scan, work } from '../../dist/archive/index.js';

function memoryOf(pid) {
  const own = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  return children.reduce(
    (sum, child) => {
      try {
        return { own: sum.own, children: sum.children + memoryOf(child).own };
      } catch {
        return sum;
      }
    },
    { own, children: 0 },
  );
}

const folder = mkdtempSync(join(tmpdir(), 'heddle-reading-'));
const archive = await Archive.open({ place: folder, create: true });
try {
  for (const file of process.argv.slice(2)) {
    await archive.addRoot(resolve(file));
    await scan(archive, resolve(file));
  }
  let pages = 0;
  const began = performance.now();
  const memory = [];
  await work(archive, {
    onPage() {
      if (++pages % 100 === 0) memory.push([pages, memoryOf(process.pid)]);
    },
  });
  const seconds = (performance.now() - began) / 1000;
  for (const [at, { own, children }] of memory)
    console.log(
      `${String(at).padStart(6)} pages: ${own.toFixed(0)} MB here, ${children.toFixed(0)} MB in the processes that read`,
    );
  const { pages: states, left } = await archive.totals();
  console.log(
    `${pages} pages in ${seconds.toFixed(1)} s: ${(pages / seconds).toFixed(0)} pages/s; ${JSON.stringify(states)}, ${left} left`,
  );
} finally {
  await archive.close();
  rmSync(folder, { recursive: true, force: true });
}
