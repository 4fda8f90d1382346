/** The structure of the code: a room imports only from the rooms below it, and no files import values in a cycle. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

/** From the top down. Rooms of one row do not know each other. `#platform` is one of the folders in `platform`. */
const ROWS = [
  ['cli'],
  ['server', 'browser', 'evidence'],
  ['bench', 'archive'],
  ['tasks'],
  ['train', 'generate'],
  ['inspect'],
  ['models', 'hub'],
  ['checkpoint', 'text', 'signals'],
  ['nn'],
  ['engine'],
  ['graph'],
  ['platform'],
];

/** What all rooms may use: files beside the rooms. */
const EVERYWHERE = ['arguments.ts', 'command-line.ts', 'errors.ts', 'gguf.ts', 'schema-issues.ts'];

const root = fileURLToPath(new URL('../src/', import.meta.url));

interface Import {
  readonly from: string;
  /** A file of ours, or a package's name. */
  readonly to: string;
  readonly isType: boolean;
}

/** Files by their paths from `src`, without tests and what only they use. */
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((path) => path.split(sep).join('/'))
  .filter((path) => /\.tsx?$/.test(path) && !/\.(test|d)\.ts$|(^|\/)testing\//.test(path));

const imports = files.flatMap(importsOf);

/** The formatter leaves statements in one form only. What is imported when it is needed makes no circle of files that load. */
function importsOf(from: string): Import[] {
  const source = readFileSync(join(root, from), 'utf8');
  const statements = [...source.matchAll(/^(?:import|export) (type )?([^'";]*?) ?from '([^']+)';$/gms)];
  const later = [...source.matchAll(/\bimport\('([^']+)'\)/g)];
  return [
    ...statements.map(([, type, names, to]) => ({
      from,
      to: resolved(from, to!),
      isType: type !== undefined || namesTypesAlone(names!),
    })),
    ...later.map(([, to]) => ({ from, to: resolved(from, to!), isType: true })),
  ];
}

/** Of `{ type A, type B }`. */
function namesTypesAlone(names: string): boolean {
  const listed = /^\{(.*)\}$/s
    .exec(names)?.[1]
    ?.split(',')
    .map((name) => name.trim());
  return listed?.every((name) => name === '' || name.startsWith('type ')) ?? false;
}

function resolved(from: string, specifier: string): string {
  if (!specifier.startsWith('.')) return specifier;
  const path = relative(root, join(root, dirname(from), specifier))
    .split(sep)
    .join('/');
  const source = path.replace(/\.js$/, '.ts');
  return existsSync(join(root, source)) ? source : path;
}

function roomOf(path: string): string | undefined {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : undefined;
}

test('the page on architecture shows these rows', () => {
  const page = readFileSync(join(root, '../docs/architecture.md'), 'utf8');
  const drawn = /```\n(.*?)```/s.exec(page)![1]!.trim().split('\n');
  expect(drawn.map((line) => line.slice(0, 30).trim().split(/ +/))).toEqual(ROWS);
});

test('the check sees all rooms', () => {
  expect(files.length).toBeGreaterThan(200);
  expect(imports.length).toBeGreaterThan(1000);
  expect(imports.find(({ from, to }) => from === 'nn/mixer.ts' && to === 'engine/index.ts')).toBeDefined();
});

test('every room is in a row', () => {
  const rooms = [...new Set(files.flatMap((path) => roomOf(path) ?? []))];
  expect(rooms.filter((room) => !ROWS.flat().includes(room))).toEqual([]);
  const beside = files.filter((path) => roomOf(path) === undefined && path !== 'index.ts');
  expect(beside.sort()).toEqual(EVERYWHERE);
});

test('a room imports only from rows below it', () => {
  const row = (room: string): number => ROWS.findIndex((rooms) => rooms.includes(room));
  const wrong = imports.filter(({ from, to }) => {
    const [room, other] = [roomOf(from), files.includes(to) ? roomOf(to) : undefined];
    return room !== undefined && other !== undefined && room !== other && row(other) <= row(room);
  });
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

test('modules that all rooms use import none of them', () => {
  const wrong = imports.filter(
    ({ from, to }) =>
      EVERYWHERE.includes(from) &&
      files.includes(to) &&
      ![...EVERYWHERE, 'platform'].includes(roomOf(to) ?? to),
  );
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

test('nothing outside the engine imports an executor', () => {
  const isExecutor = (path: string): boolean => /^engine\/(onnxruntime|wasm|xla)\//.test(path);
  const wrong = imports.filter(
    ({ from, to }) =>
      (isExecutor(to) && !from.startsWith('engine/')) ||
      (/^onnxruntime-/.test(to) && !from.startsWith('engine/onnxruntime/')),
  );
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

test('code for Node.js imports only dependencies and optional packages that it declares', () => {
  const { dependencies, peerDependencies } = JSON.parse(
    readFileSync(fileURLToPath(new URL('../package.json', import.meta.url)), 'utf8'),
  ) as Record<'dependencies' | 'peerDependencies', Record<string, string>>;
  const known = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies)]);
  // Those of a tab are bundled. Kernels are compiled, and know no packages.
  const isBundled = (path: string): boolean =>
    /^(browser|platform\/browser|engine\/wasm\/kernels)\//.test(path);
  const packageOf = (to: string): string => /^(?:@[^/]+\/)?[^/]+/.exec(to)![0];
  const isFile = (to: string): boolean => files.includes(to) || /^(#|node:|\.)/.test(to);
  const missing = imports.filter(
    ({ from, to, isType }) => !isType && !isBundled(from) && !isFile(to) && !known.has(packageOf(to)),
  );
  expect(missing).toEqual([]);
});

test('no files import values in a cycle', () => {
  const needs = new Map<string, string[]>();
  for (const { from, to, isType } of imports) {
    if (!isType && files.includes(to)) needs.set(from, [...(needs.get(from) ?? []), to]);
  }
  const done = new Set<string>();
  const way: string[] = [];
  const circles: string[] = [];
  const visit = (file: string): void => {
    if (way.includes(file)) {
      circles.push([...way.slice(way.indexOf(file)), file].join(' -> '));
      return;
    }
    if (done.has(file)) return;
    way.push(file);
    for (const next of needs.get(file) ?? []) visit(next);
    way.pop();
    done.add(file);
  };
  for (const file of files) visit(file);
  expect(circles).toEqual([]);
});

const project = fileURLToPath(new URL('../', import.meta.url));

/** Scripts that import the built files: programs of `bench`, `scripts` and what runs after an install. The compiler does not see them. */
const scripts = ['', 'bench', 'scripts']
  .flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: folder !== '', encoding: 'utf8' })
      .filter((path) => /\.m?js$/.test(path) && !/(^|[/\\])(node_modules|repository)[/\\]/.test(path))
      .map((path) => join(project, folder, path)),
  )
  .map((path) => ({ path, source: readFileSync(path, 'utf8') }));

const imported = scripts.flatMap(({ path, source }) => [
  ...[...source.matchAll(/^import \{([^}]*)\} from '([^']+)';$/gm)].map(([, names, from]) => ({
    path,
    names: names!,
    file: resolve(dirname(path), from!),
  })),
  ...[
    ...source.matchAll(/const (\w+) = new URL\('([^']+)'.*?const \{([^}]*)\} = await import\(\1\.href\)/gs),
  ].map(([, , from, names]) => ({ path, names: names!, file: resolve(dirname(path), from!) })),
]);

test('scripts import only what the built files export', async () => {
  const built = join(project, 'dist') + sep;
  const missing: string[] = [];
  let count = 0;
  for (const { path, names, file } of imported.filter(({ file }) => file.startsWith(built))) {
    const module: object = await import(join(root, `${file.slice(built.length, -'.js'.length)}.ts`));
    for (const name of names.split(',').map((name) => name.trim().split(' as ')[0]!)) {
      if (name === '') continue;
      count += 1;
      if (!(name in module)) missing.push(`${relative(project, path)} imports ${name}`);
    }
  }
  expect(missing).toEqual([]);
  expect(count).toBeGreaterThan(0);
});
