/**
 * What runs graphs: a device compiles a program into an executable, and what the program keeps between runs lives in states.
 * How they are stored is up to the executor; code above this interface does not depend on it.
 */
import type { Dim, DType, Precision, Tensor } from '../graph/index.js';
import type { HostTensor, Weight } from './tensors.js';

/** Something that a program keeps from run to run. */
export interface StateSpec {
  readonly name: string;
  readonly dtype: DType;
  /** With the symbol `batch` as the first axis where there is a row of it for each sequence, and `past` on the growing axis. */
  readonly shape: readonly Dim[];
  /** The axis along which a run appends entries; without one a run replaces the whole value. */
  readonly grows?: number;
  /** The value of every element of a new state. */
  readonly initial: number;
}

/** One state of a program: the tensor that a run is given, and what the run makes of it. */
export interface StateChange {
  readonly spec: StateSpec;
  /**
   * An input under the spec's name. A growing one has room on its growing axis: the entries of row i lie at [0, lengths[i]), and what
   * lies behind them is to be masked.
   */
  readonly before: Tensor;
  /** The new value; of a growing state the entries to append. `before` itself leaves it as it is. */
  readonly after: Tensor;
}

/** A graph to run: what it is fed, what it returns, and what it keeps. The executor computes nothing else. */
export interface Program {
  /** All inputs that are fed. Of some the program may use nothing but their sizes. */
  readonly inputs: readonly Tensor[];
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly state?: readonly StateChange[];
  /** int64 [batch], an input that the executable feeds by itself: how many entries the growing states of each row hold before the run. */
  readonly lengths?: Tensor;
  /** Inputs that never change, by name: they become part of the compiled program. */
  readonly weights?: ReadonlyMap<string, Weight>;
  /** Along which axis inputs may be cut where several devices compute together, by their names: each then computes a part of the batch. */
  readonly spread?: Readonly<Record<string, number>>;
  /**
   * The precision of products by the path of their node; undefined for that of the device. A device that computes everything in float32
   * ignores it.
   */
  readonly precisionOf?: (path: string) => Precision | undefined;
  /** Symbolic dimensions that are fixed: what follows from them is computed once, when the program is compiled. */
  readonly dims?: Readonly<Record<string, number>>;
}

/** `cpu` and `webgpu` are ONNX Runtime's; `wasm` has kernels of our own; `cuda` is XLA's. */
export type DeviceName = OrtName | 'wasm' | 'cuda';

/** The devices of ONNX Runtime. */
export type OrtName = 'cpu' | 'webgpu';

/** How a device is opened. */
export interface DeviceOptions {
  /** Threads that compute; by default one for each physical core. */
  threads?: number;
  /**
   * Told, once, where less is done than could be: a model that the kernels of our own have no room for is written by ONNX Runtime. By
   * default it becomes a warning of the process.
   */
  notice?: ((text: string) => void) | undefined;
  /** In which `cuda` computes products; `bfloat16` by default. */
  precision?: Precision;
  /** GPUs of `cuda` that train as one; 1 by default. */
  devices?: number;
  /** What several GPUs share: the batch alone (by default), or parameters and the optimizer's moments too. */
  shard?: 'data' | 'full';
  /** The same bits in every run on `cuda`, at the cost of speed. */
  deterministic?: boolean;
  /**
   * The share of a GPU's memory that `cuda` may take, as it needs it; by default that of `HEDDLE_GPU_MEMORY`, else three quarters, at once.
   */
  memoryFraction?: number;
  /** Told of each program that `cuda` has to compile, which takes seconds. */
  onCompile?: () => void;
}

/** What compiles programs. Those of one device share the memory of their weights, and may share states. */
export interface Device {
  readonly name: DeviceName;
  /** Whether a run has an overhead in proportion to its states (it copies them), so that several steps in one run are faster. */
  readonly prefersLongRuns: boolean;
  /**
   * Whether runs are asynchronous: the next run of the same states may be enqueued before the results of the first are there, so that the
   * device never idles.
   */
  readonly runsAhead: boolean;
  /** Bytes that all its programs can have together, where its addresses reach less far than the machine's memory. */
  readonly addressable?: number;
  /**
   * Throws `DeviceError` for an input that the program does not declare, for weights that do not fit, and for what the device cannot hold or
   * compute.
   */
  compile(program: Program): Promise<Executable>;
  /** Compiles a model that reads and writes. Throws as `compile` does. */
  compileDecoder(programs: DecoderPrograms): Promise<Decoder>;
  /** What each of its GPUs has in use, where they can say: XLA's can. */
  gpuMemory?(): readonly DeviceMemory[];
  dispose(): Promise<void>;
}

/** Bytes of a device's memory. */
export interface MemoryUse {
  readonly inUse: number;
  /** The most that was in use at one time. */
  readonly peak: number;
  /** What this process may use at most. */
  readonly limit: number;
}

/** The memory of one GPU. */
export interface DeviceMemory extends MemoryUse {
  /** The GPU's kind, such as `NVIDIA H200`. */
  readonly kind: string;
}

/** Programs with the same states and weights. */
export interface DecoderPrograms {
  /** Reads many tokens at once. */
  readonly read: Program;
  /** The same for exactly so many tokens of each row: some layers compute less where the number is known at compile time. */
  readPiece(tokens: number): Program;
  /** The same for one token of each row, with the same inputs. */
  readonly write: Program;
  /**
   * `read` as two programs: `layers`, and a head without states that takes its outputs. A device that reads and writes with different
   * executors can then hold the weights of the head in one of them alone.
   */
  readonly layers: Program;
  readonly head: Program;
}

/** Two executables that run the same states: one reads many tokens at once, one writes token by token. */
export interface Decoder {
  readonly reader: Executable;
  readonly writer: Executable;
  /** Tokens of a long text that the reader takes best at once, where it says so. */
  readonly chunk?: number;
  /**
   * Lengths that it has programs for, the longest first and 1 the last: another length is run as several of these. Absent where any length
   * is run as it is.
   */
  readonly pieces?: readonly number[];
  /** Writes several tokens in one run, where the device chooses them by itself. */
  readonly ahead?: WritesAhead;
}

/** Sampling on the device: it chooses a token, reads it, and goes on, without a round trip for each token. */
export interface WritesAhead {
  /** Tokens of a run at most. */
  readonly steps: number;
  /** Tokens that end a row: so many at most. */
  readonly stops: number;
  /**
   * Row i reads `ids[i]`, which stands at `position`, and writes on until a token of `stops`, or `count` tokens; its state has then read all
   * of them but the last. Throws as `Executable.run` does.
   */
  run(rows: readonly WritingRow[]): Promise<WrittenRow[]>;
}

/** What a row reads first, and how its tokens are drawn: as generate/sampler.ts does it, in float32. */
export interface WritingRow {
  readonly id: number;
  readonly position: number;
  readonly state: State;
  readonly temperature: number;
  /** Tokens that are drawn among at most: no more than 1024. 1 takes the likeliest one. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly stops: readonly number[];
  /** A number in [0, 1) for each token that may be written. */
  readonly uniforms: readonly number[];
}

/** What a device wrote by itself for one row. */
export interface WrittenRow {
  readonly ids: readonly number[];
  /** The logit of each. */
  readonly chosen: readonly number[];
  /** The logits [vocabulary] from which the last token was chosen, where that token ended the row. */
  readonly logits?: Float32Array;
}

/** A compiled program. */
export interface Executable {
  /** Whether `newState` copies its arguments, so that they may be what another state's `lend` returned. */
  readonly copiesInitial?: boolean;
  /**
   * A state of these values by name, those of one row; what is not given has the spec's initial value. Growing ones hold `length` entries.
   * The values' arrays belong to the state from now on. Throws `DeviceError` for values that do not fit.
   */
  newState(initial?: ReadonlyMap<string, HostTensor>, length?: number): State;
  /**
   * Runs once, and updates the states: row i of the batch belongs to rows[i]. A program whose states have no batch axis takes one row. A
   * state may come from another executable of the same device, if it has all values that this program names; other values are unchanged.
   * The outputs' arrays belong to the caller. Throws `DeviceError` for a feed that is missing, unknown, or of another type, and then all
   * rows are as before.
   */
  run(
    feeds: Readonly<Record<string, HostTensor>>,
    rows?: readonly State[],
  ): Promise<Record<string, HostTensor>>;
  /** Compiles now what the first run would compile, for a program without symbolic dimensions. */
  prepare?(): Promise<void>;
  dispose(): Promise<void>;
}

/** What a program keeps of one row. */
export interface State {
  /** Entries that its growing values hold. */
  readonly length: number;
  /** Bytes of its values, with the room for more entries and with what is shared with forks. */
  readonly bytes: number;
  /** Bytes by the object that holds them. Memory that two states share has the same key in both, so that it can be counted once. */
  readonly holdings: ReadonlyMap<object, number>;
  /** An independent copy. Large values are copied on write. */
  fork(): State;
  /** Copies of the values by name (of `names`, or all), the growing ones with their entries alone. */
  read(names?: readonly string[]): Promise<Map<string, HostTensor>>;
  /**
   * The values without a copy, where they are arrays on the host: the caller must not change them, and must copy them before the next run.
   * A growing one may have room behind its entries.
   */
  lend?(): ReadonlyMap<string, HostTensor> | undefined;
  /** Frees the values, once runs that use them are over. A disposed state cannot be run, read or forked. */
  dispose(): void;
}

/** How states change with a run that is given `before` and makes `after`, both by the specs' names. */
export function stateChanges(
  specs: readonly StateSpec[],
  before: Readonly<Record<string, Tensor>>,
  after: Readonly<Record<string, Tensor>>,
): StateChange[] {
  return specs.map((spec) => ({ spec, before: before[spec.name]!, after: after[spec.name]! }));
}

/** The dimensions of a state of one row that holds `length` entries where it grows. */
export function stateDims({ shape }: StateSpec, length: number): number[] {
  return shape.map((dim) => (dim === 'batch' ? 1 : dim === 'past' ? length : (dim as number)));
}
