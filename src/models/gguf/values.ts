/** Access to a GGUF file's metadata. */
import { ConfigError } from '../../errors.js';
import type { Gguf } from '../../gguf.js';

/** Typed access to a GGUF file's metadata under the prefix of its architecture. */
export class GgufValues {
  /** The number of the model's own layers, without those for multi-token prediction behind them. */
  readonly layers: readonly number[];

  constructor(
    readonly gguf: Gguf,
    private readonly architecture: string,
  ) {
    const count = this.number('block_count') - this.number('nextn_predict_layers', 0);
    if (!(Number.isInteger(count) && count >= 1 && count <= 1000)) throw this.refused(`block_count ${count}`);
    this.layers = Array.from({ length: count }, (_, i) => i);
  }

  /** A number. Throws `ConfigError` if it is missing without a default, or not a number. */
  number(key: string, otherwise?: number): number {
    return this.numbers(key, otherwise)[0]!;
  }

  /** A number for each layer, or one for all layers. */
  numbers(key: string, otherwise?: number): number[] {
    const value = this.value(key) ?? otherwise;
    const all = (Array.isArray(value) ? value : [value]).map((entry) =>
      typeof entry === 'bigint' ? Number(entry) : entry,
    );
    if (all.length === 0 || !all.every((entry) => typeof entry === 'number')) {
      throw new ConfigError(
        `${this.gguf.path} has no number under ${this.full(key)}: convert the model again with a newer llama.cpp`,
      );
    }
    return all as number[];
  }

  boolean(key: string, otherwise: boolean): boolean {
    const value = this.value(key);
    return typeof value === 'boolean' ? value : otherwise;
  }

  text(key: string, otherwise: string): string {
    const value = this.value(key);
    return typeof value === 'string' ? value : otherwise;
  }

  /** The number of key and value heads of a layer; 0 for a layer without attention. */
  kvHeads(layer: number): number {
    const all = this.numbers('attention.head_count_kv', this.number('attention.head_count', 0));
    return all.length === 1 ? all[0]! : (all[layer] ?? 0);
  }

  get headDim(): number {
    const heads = Math.max(1, ...this.numbers('attention.head_count'));
    return this.number('attention.key_length', this.number('embedding_length') / heads);
  }

  /** The shortest decimal of a float32: 0.00001 instead of 0.000009999999747. */
  get epsilon(): number {
    return Number(this.number('attention.layer_norm_rms_epsilon', 1e-5).toPrecision(6));
  }

  has(tensor: string): boolean {
    return this.gguf.tensors.has(tensor);
  }

  /** Whether any layer has this tensor. */
  hasSome(name: string): boolean {
    return this.layers.some((i) => this.has(`blk.${i}.${name}`));
  }

  /** The dimensions of a matrix that the file contains. */
  rows(tensor: string): number {
    return this.gguf.tensors.get(tensor)!.shape[0]!;
  }

  refused(what: string): ConfigError {
    return new ConfigError(`${this.gguf.path} has ${what}, which is not read (${this.architecture})`);
  }

  private value(key: string): unknown {
    return this.gguf.metadata[this.full(key)];
  }

  private full(key: string): string {
    return `${this.architecture}.${key}`;
  }
}
