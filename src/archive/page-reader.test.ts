/** The process that reads pages, played by a small program. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { PageReader } from './page-reader.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-page-reader-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.useRealTimers());

/** A reader whose process answers as this function's text says; `pid` is told as a page's why. */
function reader(name: string, read: string): PageReader {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(
    path,
    `const say = (message) => process.send(message);
     const page = (number) => say({ kind: 'page', number, page: { state: 'read', why: String(process.pid), rows: [] } });
     process.on('message', (request) => {
       if (request.kind === 'open') say({ kind: 'opened', pages: 5 });
       if (request.kind === 'read') for (let number = request.first; number <= request.last; number++) { ${read} }
     });
     process.on('disconnect', () => process.exit());`,
  );
  return new PageReader({ program: pathToFileURL(path), seconds: 30 });
}

async function read(pages: PageReader, path: string): Promise<{ state: string; why?: string }[]> {
  const all: { state: string; why?: string }[] = [];
  for await (const page of pages.pages(path, 'text', path, 1, 5)) all.push(page);
  return all;
}

test('a process that ends while nothing is asked of it is no fault of the next document', async () => {
  const pages = reader('ends', 'page(number);');
  const [first] = await read(pages, 'a');
  process.kill(Number(first!.why), 'SIGKILL');
  // Until the end of the process is heard of.
  const { child } = pages as unknown as { child: NodeJS.EventEmitter };
  await new Promise((resolve) => child.once('exit', resolve));
  const again = await read(pages, 'b');
  expect(again.map(({ state }) => state)).toEqual(Array(5).fill('read'));
  expect(again[0]!.why).not.toBe(first!.why);
  pages.close();
});

test('a page that takes too long is one that failed, and those around it are read', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const pages = reader('hangs', 'if (number === 3) return; page(number);');
  const all: string[] = [];
  const found = pages.pages('a', 'text', 'a', 1, 5);
  for (let i = 1; i <= 5; i++) {
    const next = found.next();
    // Only the third waits for the end of its time, whatever the others take.
    if (i === 3) await vi.advanceTimersByTimeAsync(30_000);
    const { state, why } = (await next).value!;
    all.push(state === 'read' ? state : why!);
  }
  expect(all).toEqual(['read', 'read', 'it took more than 30 s', 'read', 'read']);
  pages.close();
});
