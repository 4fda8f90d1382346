/**
 * Models in the browser's private file system, one folder each: downloaded once, then read from there without a request. A note in the
 * folder, written last, marks it as complete. While one tab downloads a model, others wait and then use its files.
 */
import { basename, join, makeFolder, readFolder, readText, statsOf, writeFileAtomic } from '#platform';
import { parseJson, shardsIn } from '../checkpoint/index.js';
import { ConfigError, HubError, StorageError } from '../errors.js';
import { readEntry } from '../hub/entry.js';
import { checkRepo, checkRevision } from '../hub/names.js';
import { type Entry, INDEX, selectFiles, shardsOf } from '../hub/selection.js';
import type { RemoteFile } from '../hub/sums.js';
import { CHECKPOINT } from '../models/index.js';
import { keepsFiles, MEMORY, memory, remove } from '../platform/browser/storage.js';
import { VOCABULARY_FILES } from '../text/index.js';
import { type DownloadOptions, download, isLoaded, type Wanted } from './download.js';
import { type Asked, ask, passing } from './patience.js';
import type { Hosted, NamedFile, PlainSource, Repository } from './source.js';
import { runFolder } from './training.js';

/** Progress of loading a model. */
export interface LoadProgress {
  /** The file that is being loaded. */
  readonly file: string;
  /** Bytes present of all files, and their total size if it is known. */
  readonly loaded: number;
  readonly total: number | undefined;
}

/** Options for downloading and storing a model's files. */
export interface StoreOptions {
  /** `memory` stores nothing beyond the life of the page; by default files are stored if the browser can. */
  readonly store?: 'kept' | 'memory';
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A stored model. */
export interface KeptModel {
  /** The address that it was loaded from, or its hub's address with the repository and revision. */
  readonly source: string;
  /** Size of the stored files, also if not all are there yet. */
  readonly bytes: number;
  /** Whether all of its files are there; if not, loading it again resumes the download. */
  readonly isWhole: boolean;
}

const MODELS = '/heddle/models';
const NOTE = '.whole.json';

type Fetched = Extract<PlainSource, { kind: 'hosted' | 'repository' }>;

interface Note {
  readonly bytes: number;
  readonly files: readonly string[];
  /** The checksums that the page gave, by file. */
  readonly sums?: Readonly<Record<string, string>>;
}

/** The folder, or the GGUF file, of a model, downloaded if it is not stored. Throws the errors of `download`, and `ConfigError`. */
export async function modelAt(source: PlainSource, options: StoreOptions): Promise<string> {
  if (source.kind === 'files') return held(source.files);
  if (source.kind === 'run') return join(runFolder(source.name), CHECKPOINT);
  const name = nameOf(source);
  const isKept = options.store !== 'memory' && (await keepsFiles());
  const folder = join(isKept ? MODELS : `${MEMORY}/models`, name);
  return locked(`heddle model ${folder}`, options.signal, async () => {
    const kept = await noteOf(folder);
    if (kept && isOf(kept, source)) return place(folder, kept.files);
    await makeFolder(folder);
    // Until all files of the new version are downloaded, the folder has files of both versions.
    await remove(join(folder, NOTE));
    const files = await fetched(source, folder, options);
    await removeOthers(folder, files);
    let bytes = 0;
    for (const file of files) bytes += (await statsOf(join(folder, file))).size;
    const note: Note = { bytes, files, sums: sumsOf(source) };
    await writeFileAtomic(join(folder, NOTE), JSON.stringify(note));
    return place(folder, files);
  });
}

/** Whether the stored files are the requested ones; the files at an address may have changed. */
function isOf({ files, sums = {} }: Note, source: Fetched): boolean {
  if (source.kind === 'repository') return true;
  const names = namesIn(source);
  const hasNames = names.length === 0 || [...names].sort().join('/') === [...files].sort().join('/');
  return hasNames && Object.entries(sumsOf(source)).every(([name, sum]) => sums[name] === sum);
}

/** Removes files and partial downloads of other versions. */
async function removeOthers(folder: string, files: readonly string[]): Promise<void> {
  for (const { name } of await readFolder(folder)) {
    if (!files.includes(name)) await remove(join(folder, name));
  }
}

/** The SHA-256 of a source's files, if it lists them. */
function sumsOf(source: Fetched): Readonly<Record<string, string>> {
  if (source.kind === 'repository' || !source.files || Array.isArray(source.files)) return {};
  const files = source.files as Readonly<Record<string, string>>;
  return Object.fromEntries(Object.entries(files).map(([name, sum]) => [name, sum.toLowerCase()]));
}

/** The files that the source lists; empty if the usual names are to be tried. */
function namesIn({ url, files = [] }: Hosted): readonly string[] {
  if (isGguf(url)) return [basename(decodeURIComponent(new URL(url).pathname))];
  return Array.isArray(files) ? files : Object.keys(files);
}

const isGguf = (url: string): boolean => /\.gguf$/i.test(new URL(url).pathname);

/** Models stored for this site, also partly downloaded ones. */
export async function keptModels(): Promise<KeptModel[]> {
  const folders = await readFolder(MODELS).catch(() => []);
  const models = await Promise.all(
    folders.map(async ({ name }): Promise<KeptModel> => {
      const folder = join(MODELS, name);
      const note = await noteOf(folder);
      const bytes = note?.bytes ?? (await bytesIn(folder));
      return { source: decodeURIComponent(name), bytes, isWhole: note !== undefined };
    }),
  );
  // A folder is created before its first byte arrives.
  return models.filter(({ isWhole, bytes }) => isWhole || bytes > 0);
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const { name } of await readFolder(folder)) {
    // Another tab may move a file meanwhile.
    bytes += await statsOf(join(folder, name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return bytes;
}

/** Removes a stored model, also a partly downloaded one. */
export async function forget(source: PlainSource | ({ readonly kind: 'kept' } & KeptModel)): Promise<void> {
  if (source.kind === 'files' || source.kind === 'run') return;
  const name = source.kind === 'kept' ? encodeURIComponent(source.source) : nameOf(source);
  const folder = join(MODELS, name);
  await locked(`heddle model ${folder}`, undefined, () => remove(folder));
}

async function noteOf(folder: string): Promise<Note | undefined> {
  const text = await readText(join(folder, NOTE)).catch(() => undefined);
  if (text === undefined) return undefined;
  const note = JSON.parse(text) as Note;
  for (const file of note.files) if (!(await isLoaded({ path: join(folder, file) }))) return undefined;
  return note;
}

function place(folder: string, files: readonly string[]): string {
  const gguf = files.find((file) => /\.gguf$/i.test(file));
  return gguf !== undefined && !files.includes('config.json') ? join(folder, gguf) : folder;
}

let given = 0;

async function held(files: readonly NamedFile[]): Promise<string> {
  const folder = join(MEMORY, 'given', String(++given));
  await makeFolder(folder);
  for (const { name, file } of files) memory.put(join(folder, name), file);
  return place(
    folder,
    files.map(({ name }) => name),
  );
}

/** A folder name for a source, without separators. */
function nameOf(source: Fetched): string {
  if (source.kind === 'hosted') return encodeURIComponent(source.url);
  const { repository, revision = 'main', hub = HUB } = source.repository;
  return encodeURIComponent(`${hub}/${repository}@${revision}`);
}

async function locked<T>(name: string, signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
  if (!navigator.locks) return use();
  return navigator.locks.request(name, signal ? { signal } : {}, use);
}

function fetched(source: Fetched, folder: string, options: StoreOptions): Promise<string[]> {
  return source.kind === 'hosted'
    ? fetchHosted(source, folder, options)
    : fetchRepository(source.repository, folder, options);
}

const CONFIG = 'config.json';
const SINGLE = 'model.safetensors';
const TOKENIZER_JSON = 'tokenizer.json';
/** Optional files beside a model's config and weights. */
const COMPANIONS = [TOKENIZER_JSON, 'tokenizer_config.json', 'generation_config.json', 'chat_template.jinja'];

async function fetchHosted(
  source: Extract<PlainSource, { kind: 'hosted' }>,
  folder: string,
  options: StoreOptions,
): Promise<string[]> {
  const { url, token } = source;
  const sums = sumsOf(source);
  const names = namesIn(source);
  const wanted = (name: string, isOptional = false): Wanted => ({
    name,
    url: isGguf(url) ? url : new URL(name, url).href,
    path: join(folder, name),
    isOptional,
    ...(sums[name] !== undefined && { sum: { kind: 'sha256', hex: sums[name] } }),
  });
  const loading = new Loading(options, authorization(token));
  if (names.length > 0) return loading.all(names.map((name) => wanted(name)));
  const small = await loading.all([wanted(CONFIG), ...COMPANIONS.map((name) => wanted(name, true))]);
  // A vocabulary in another format is used only if there is no tokenizer.json.
  if (!small.includes(TOKENIZER_JSON))
    small.push(...(await loading.all(VOCABULARY_FILES.map((name) => wanted(name, true)))));
  const single = await loading.all([wanted(SINGLE, true)]);
  if (single.length > 0) return [...small, ...single];
  const index = await loading.all([wanted(INDEX, true)]);
  if (index.length === 0) {
    throw new HubError(`${url} has neither ${SINGLE} nor ${INDEX}: check that it is a model's folder`);
  }
  const shards = new Set(shardsIn(new TextEncoder().encode(await readText(join(folder, INDEX)))).values());
  return [...small, ...index, ...(await loading.all([...shards].sort().map((name) => wanted(name))))];
}

const HUB = 'https://huggingface.co';

async function fetchRepository(source: Repository, folder: string, options: StoreOptions): Promise<string[]> {
  const [, repo, , format] = /^([^:]*)(:(.*))?$/.exec(source.repository)!;
  const { revision = 'main', token } = source;
  const hub = (source.hub ?? HUB).replace(/\/+$/, '');
  checkRepo(repo!);
  checkRevision(revision);
  if (!URL.canParse(hub)) throw new ConfigError(`'${hub}' is not the address of a hub`);
  const headers = authorization(token);
  const entries = await entriesOf(hub, repo!, revision, headers, options.signal);
  const { config, small, weights, parts = [] } = selectFiles(repo!, entries, format);
  const wanted = ({ name, size, sum }: RemoteFile): Wanted => ({
    name,
    size,
    sum,
    url: `${hub}/${repo}/resolve/${encodeURIComponent(revision)}/${encodeURIComponent(name)}`,
    path: join(folder, name),
  });
  const loading = new Loading(options, headers);
  const first = [...(config ? [config] : []), ...small, ...(weights.name === INDEX ? [weights] : [])];
  const done = await loading.all(first.map(wanted));
  if (weights.name !== INDEX) return [...done, ...(await loading.all([weights, ...parts].map(wanted)))];
  const index = new TextEncoder().encode(await readText(join(folder, INDEX)));
  return [...done, ...(await loading.all(shardsOf(repo!, index, entries).map(wanted)))];
}

function authorization(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { Authorization: `Bearer ${token}` };
}

/** The most pages that the file list of a model can have. */
const MOST_PAGES = 1000;

async function entriesOf(
  hub: string,
  repo: string,
  revision: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<Entry[]> {
  const { host } = new URL(hub);
  const entries: Entry[] = [];
  let next: string | undefined =
    `${hub}/api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=false`;
  for (let pages = 0; next !== undefined && pages < MOST_PAGES; pages++) {
    const asked: Asked = { name: `the list of the files of ${repo}`, url: next };
    const { list, link }: { list: unknown; link: string } = await ask(
      asked,
      { headers: () => headers, signal },
      async (response) => {
        const { status, ok } = response;
        if (!ok) {
          throw (
            passing(asked, response) ??
            new HubError(
              `${host} has no model ${repo} with a revision '${revision}' that everybody may read (${status}). Check the spelling; if it is private or gated, give a token.`,
            )
          );
        }
        return { list: parseJson(await response.text()), link: response.headers.get('link') ?? '' };
      },
    );
    if (!Array.isArray(list))
      throw new HubError(`${host} answered with something else than the list of the files of ${repo}`);
    entries.push(...list.map((item) => readEntry(host, repo, item)));
    const following = /<([^>]+)>;\s*rel="next"/.exec(link)?.[1];
    next = following === undefined ? undefined : new URL(following, hub).href;
  }
  return entries;
}

/** Downloads files one after the other and reports the progress. */
class Loading {
  private done = 0;
  private readonly totals = new Map<string, number>();

  constructor(
    private readonly options: StoreOptions,
    private readonly headers: Readonly<Record<string, string>> = {},
  ) {}

  /** Downloads the files; returns the names of those that exist. Throws `StorageError` before the download if there is too little space. */
  async all(files: readonly Wanted[]): Promise<string[]> {
    for (const { name, size } of files) if (size !== undefined) this.totals.set(name, size);
    const missing: Wanted[] = [];
    for (const file of files) if (!(await isLoaded(file))) missing.push(file);
    await expectRoom(missing);
    const there: string[] = [];
    for (const file of files) {
      if (await this.one(file, missing.includes(file))) there.push(file.name);
    }
    return there;
  }

  private async one(file: Wanted, isMissing: boolean): Promise<boolean> {
    const { onProgress, signal } = this.options;
    if (isMissing) {
      const options: DownloadOptions = {
        headers: this.headers,
        signal,
        onBytes: (loaded, total) => {
          if (total !== undefined) this.totals.set(file.name, total);
          const known = total === undefined ? undefined : this.total;
          onProgress?.({ file: file.name, loaded: this.done + loaded, total: known });
        },
      };
      if (!(await download(file, options))) return false;
    }
    const { size } = await statsOf(file.path);
    this.done += size;
    this.totals.set(file.name, size);
    onProgress?.({ file: file.name, loaded: this.done, total: this.total });
    return true;
  }

  private get total(): number {
    return [...this.totals.values()].reduce((a, b) => a + b, 0);
  }
}

async function expectRoom(files: readonly Wanted[]): Promise<void> {
  const bytes = files.reduce((sum, { size = 0 }) => sum + size, 0);
  if (bytes === 0 || files.every(({ path }) => path.startsWith(MEMORY))) return;
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  if (quota === undefined || usage + bytes <= quota) return;
  const megabytes = (size: number): string => `${(size / 1e6).toFixed(0)} MB`;
  throw new StorageError(
    `the model takes ${megabytes(bytes)} more, and the browser gives this site ${megabytes(quota - usage)}: remove models that are not needed, free space on the disk, or load it into memory (store: 'memory')`,
  );
}
