/**
 * Resolves the name of a model: its folder, also in the cache of huggingface_hub, a GGUF file, the folder of a training run, or the name of the
 * shipped model. A folder has
 * precedence over that name.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expectText } from '../arguments.js';
import { CHECKPOINT, METRICS, SHIPPED_MODEL } from './names.js';

const SHIPPED_FOLDER = fileURLToPath(new URL(`../../assets/${SHIPPED_MODEL}`, import.meta.url));

/** The shipped model. `sotu` is a short name for it. */
const SHIPPED_NAMES = [SHIPPED_MODEL, 'sotu'];

/** The folder of a model's files. An unknown name is returned unchanged: opening it gives the error. Throws `DataError` for what is no text. */
export function modelFolder(name: string): string {
  expectText(name, 'the name of the model is');
  if (!existsSync(name) && SHIPPED_NAMES.includes(name)) return SHIPPED_FOLDER;
  const folder = checkpointFolder(name);
  return ggufIn(folder) ?? snapshotIn(folder) ?? folder;
}

/** The snapshots of a model in the cache of huggingface_hub: `models--owner--name/snapshots/<commit>`. */
const SNAPSHOTS = 'snapshots';

/** The snapshot of a model's folder in the cache of huggingface_hub: that of the branch main, else the only one. */
function snapshotIn(folder: string): string | undefined {
  if (!/^models--/.test(basename(resolve(folder))) || !isFolder(join(folder, SNAPSHOTS))) return undefined;
  const commits = readdirSync(join(folder, SNAPSHOTS));
  const main = join(folder, 'refs', 'main');
  const commit = existsSync(main) ? readFileSync(main, 'utf8').trim() : undefined;
  const found = commits.includes(commit!) ? commit : commits.length === 1 ? commits[0] : undefined;
  return found === undefined ? undefined : join(folder, SNAPSHOTS, found);
}

/** The GGUF file of a folder without another model; the first part if it is split. */
function ggufIn(folder: string): string | undefined {
  if (!isFolder(folder)) return undefined;
  const names = readdirSync(folder);
  if (names.some((file) => file === 'config.json' || file.endsWith('.safetensors'))) return undefined;
  const found = names.filter(
    (file) => /\.gguf$/i.test(file) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(file),
  );
  return found.length === 1 ? join(folder, found[0]!) : undefined;
}

/** False also for a path that the system refuses; opening it says why. */
function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** For the folder of a training run, the folder of its checkpoint (a model or an adapter); other folders unchanged. */
export function checkpointFolder(folder: string): string {
  expectText(folder, 'the folder is');
  const has = (name: string): boolean => existsSync(join(folder, name));
  const isRun = (has(METRICS) || has(CHECKPOINT)) && !has('config.json') && !has('adapter_config.json');
  return isRun ? join(folder, CHECKPOINT) : folder;
}

/** The default name of a model: that of its folder, of the parent folder if it is called `checkpoint`, or that of its repository. */
export function modelName(name: string): string {
  const folder = resolve(modelFolder(name));
  const parent = dirname(folder);
  if (basename(parent) === SNAPSHOTS && /^models--/.test(basename(dirname(parent))))
    return basename(dirname(parent)).split('--').at(-1)!;
  // The checkpoint folders of all runs have the same name.
  return (basename(folder) === CHECKPOINT && basename(parent)) || basename(folder).replace(/\.gguf$/i, '');
}

/** A model to serve: its name in requests, and its folder. */
export interface NamedModel {
  readonly name: string;
  readonly folder: string;
}

/** Parses `name=model`, or only a model, whose name is that of `modelName`. */
export function namedModel(text: string): NamedModel {
  const [, name, model] = /^([^=/\\]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || existsSync(text)) return { name: modelName(text), folder: modelFolder(text) };
  return { name, folder: modelFolder(model!) };
}
