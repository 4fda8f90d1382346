/**
 * The weights in a model's folder, however many files they are in.
 *
 * Hugging Face's layout has two forms: `model.safetensors` alone, or shards and the `model.safetensors.index.json` that says
 * which of them holds which tensor. Where both are, the single file counts, as it does for transformers. All headers are read
 * when the folder is opened, so that shards of two models in one folder are found before anything is computed with them.
 *
 * Index and shards need not list the same tensors: conversions leave helper tensors in either. What the index promises and its
 * shard does not hold is `absent`, which matters only to those who need it; what the index leaves out is there all the same.
 */
import { join, readFolder } from '#platform';
import { CheckpointError } from '../errors.js';
import { openSafetensors, type SafetensorsFile, type TensorReader, type TypedTensor } from './safetensors.js';
import { requireTensor, type TensorInfo } from './safetensors-header.js';
import { readShardIndex } from './shard-index.js';
import { quote } from './wording.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Where a tensor is: `path` is the file that holds it, and `version` what that was when it was opened. */
export interface WeightInfo extends TensorInfo {
  readonly path: string;
  readonly version: string;
}

/** The open weights of a model. */
export interface WeightFiles extends TensorReader {
  /** The file that speaks for all of them: the single one, or the index. */
  readonly path: string;
  /** The tensors of all files by name. */
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  /** Why a tensor that the index promises is not there, for a person, by name. */
  readonly absent: ReadonlyMap<string, string>;
}

/**
 * Opens the weights in a folder: reads every header, and checks that files and index agree.
 *
 * @throws CheckpointError when there are none in safetensors, or a file is missing, damaged, or not what the index says
 */
export async function openWeights(folder: string): Promise<WeightFiles> {
  const names = await namesIn(folder);
  if (names.has(SINGLE)) {
    const path = join(folder, SINGLE);
    const file = await openSafetensors(path);
    return new OpenWeights(path, new Map([[path, file]]), union([[path, file]]), new Map());
  }
  if (!names.has(INDEX)) throw noWeights(folder, [...names]);

  const path = join(folder, INDEX);
  const shardOf = await readShardIndex(path);
  const shards = [...new Set(shardOf.values())].sort();
  const present = shards.filter((shard) => names.has(shard));
  if (present.length === 0) throw new CheckpointError(missingShard(folder, path, shards[0]!, shardOf));
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const shard of present) files.set(join(folder, shard), await openSafetensors(join(folder, shard)));
    const tensors = union(files);
    const absent = absentTensors(folder, path, names, shardOf, tensors);
    for (const name of absent.keys()) tensors.delete(name);
    return new OpenWeights(path, files, tensors, absent);
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

class OpenWeights implements WeightFiles {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  readonly absent: ReadonlyMap<string, string>;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;

  constructor(
    path: string,
    files: ReadonlyMap<string, SafetensorsFile>,
    tensors: ReadonlyMap<string, WeightInfo>,
    absent: ReadonlyMap<string, string>,
  ) {
    this.path = path;
    this.#files = files;
    this.tensors = tensors;
    this.absent = absent;
  }

  async read(name: string): Promise<TypedTensor> {
    return this.#holderOf(name).read(name);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    return this.#holderOf(name).readFloat32(name);
  }

  async readFloat32Into(name: string, target: Float32Array): Promise<void> {
    await this.#holderOf(name).readFloat32Into(name, target);
  }

  async close(): Promise<void> {
    await closeAll(this.#files);
  }

  #holderOf(name: string): SafetensorsFile {
    return this.#files.get(requireTensor(this.path, this.tensors, name).path)!;
  }
}

async function closeAll(files: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  await Promise.all([...files.values()].map((file) => file.close()));
}

async function namesIn(folder: string): Promise<ReadonlySet<string>> {
  try {
    return new Set((await readFolder(folder)).map(({ name }) => name));
  } catch (error) {
    throw new CheckpointError(
      `${folder} is not a folder that can be read: ${(error as Error).message}. Name the folder that holds the model.`,
      { cause: error },
    );
  }
}

/** The tensors of all files, each of which must be in one of them only. */
function union(files: Iterable<readonly [path: string, SafetensorsFile]>): Map<string, WeightInfo> {
  const tensors = new Map<string, WeightInfo>();
  for (const [path, file] of files) {
    for (const [name, info] of file.tensors) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new CheckpointError(
          `The tensor ${quote(name)} is both in ${other.path} and in ${path}. The shards are not of one model: download or save them again.`,
        );
      }
      tensors.set(name, { ...info, path, version: file.version });
    }
  }
  return tensors;
}

/** The tensors that are not in the shard that the index promises, and why not. */
function absentTensors(
  folder: string,
  indexPath: string,
  names: ReadonlySet<string>,
  shardOf: ReadonlyMap<string, string>,
  tensors: ReadonlyMap<string, WeightInfo>,
): Map<string, string> {
  const absent = new Map<string, string>();
  for (const [name, shard] of shardOf) {
    const holder = tensors.get(name)?.path;
    if (holder === join(folder, shard)) continue;
    const reason = names.has(shard)
      ? `${indexPath} puts the tensor ${quote(name)} into ${quote(shard)}, which does not hold it${holder === undefined ? '' : `: ${holder} does`}. Index and shards are not of one model: download or save them again.`
      : missingShard(folder, indexPath, shard, shardOf, name);
    absent.set(name, reason);
  }
  return absent;
}

function missingShard(
  folder: string,
  indexPath: string,
  shard: string,
  shardOf: ReadonlyMap<string, string>,
  tensor = [...shardOf].find(([, holder]) => holder === shard)![0],
): string {
  return `${join(folder, shard)} is missing: ${indexPath} puts the tensor ${quote(tensor)} into it. Download what is missing into the folder.`;
}

/** Why a folder has no weights that can be read, as far as the names in it tell. */
function noWeights(folder: string, names: readonly string[]): CheckpointError {
  const missing = `${folder} has neither ${SINGLE} nor ${INDEX}`;
  const foreign = names.filter((name) => /^pytorch_model.*\.bin$|\.gguf$/.test(name)).sort();
  if (foreign.length > 0) {
    return new CheckpointError(
      `${missing}, but ${quote(foreign[0])}. That format is not read: convert the model to safetensors, or get it in that form.`,
    );
  }
  const stray = names.filter((name) => name.endsWith('.safetensors')).sort();
  if (stray.length > 0) {
    return new CheckpointError(
      `${missing}, but ${quote(stray[0])}. If that is a shard, download the index as well; if it holds all weights, call it ${SINGLE}.`,
    );
  }
  return new CheckpointError(`${missing}. Name the folder that holds the model.`);
}
