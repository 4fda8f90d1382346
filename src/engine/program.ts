/**
 * The interface of the executors: a device compiles a program into an executable, and states hold what the program keeps between runs.
 * Each executor stores states in its own way; code above this interface does not depend on it.
 */
import type { Dim, DType, Precision, Tensor } from '../graph/index.js';
import type { HostTensor, Weight } from './tensors.js';

/** The name, type and shape of a value that a program keeps from run to run. */
export interface StateSpec {
  readonly name: string;
  readonly dtype: DType;
  /** The first axis is the symbol `batch` if each sequence has a row of the value; the growing axis is the symbol `past`. */
  readonly shape: readonly Dim[];
  /** The axis along which a run appends entries. Without one, a run replaces the whole value. */
  readonly grows?: number;
  /** The value of every element of a new state. */
  readonly initial: number;
}

/** One state of a program: its value before a run, and its value after it. */
export interface StateChange {
  readonly spec: StateSpec;
  /**
   * An input with the spec's name. On its growing axis, a growing value has the entries of row i at [0, lengths[i]); the graph must mask the
   * unused room behind them.
   */
  readonly before: Tensor;
  /** The new value; for a growing state, the entries to append. `before` itself leaves the state unchanged. */
  readonly after: Tensor;
}

/** A graph to run: its inputs, outputs and states. The executor computes nothing else. */
export interface Program {
  /** All inputs that are fed, including those of which the graph uses only the sizes. */
  readonly inputs: readonly Tensor[];
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly state?: readonly StateChange[];
  /** int64 [batch], fed by the executable: the number of entries that the growing states of each row hold before the run. */
  readonly lengths?: Tensor;
  /** Inputs that are constant, by name. They become part of the compiled program. */
  readonly weights?: ReadonlyMap<string, Weight>;
  /** Data parallelism: the axis along which each input, by name, may be split over several devices. */
  readonly spread?: Readonly<Record<string, number>>;
  /**
   * The precision of matrix products by the path of their node; undefined for the device's own. Devices that compute everything in float32
   * ignore it.
   */
  readonly precisionOf?: (path: string) => Precision | undefined;
  /** Values of symbolic dimensions that are fixed, so that constants which depend on them are folded at compile time. */
  readonly dims?: Readonly<Record<string, number>>;
}

/** `cpu` and `webgpu` use ONNX Runtime, `wasm` our own kernels, `cuda` XLA. */
export type DeviceName = OrtName | 'wasm' | 'cuda';

/** The devices of ONNX Runtime. */
export type OrtName = 'cpu' | 'webgpu';

/** A process's place among those that train as one. */
export interface ProcessOptions {
  /** Its number, from 0. */
  readonly process: number;
  /** How many there are. */
  readonly processes: number;
  /** Address of the Valkey or Redis where they meet: `redis://host:6379`, with a name for the run behind `#` where several meet there. */
  readonly coordinator: string;
  /** Milliseconds to wait for the others; five minutes by default. */
  readonly patience?: number;
}

/** The processes that run each program of a device together. All of them have to run the same programs in the same order. */
export interface ProcessGroup {
  readonly process: number;
  readonly processes: number;
  /** Begins a run of all of them: what they agree on, and whether one has failed, belongs to a run. */
  begin(): void;
  /** Waits until all processes have given a value under this name. Throws `DeviceError` if they differ, or if a process has failed. */
  expectSame(what: string, value: string): Promise<void>;
  /**
   * The bound that some process has proposed under this name, the first one if several did; infinity if none has. Throws `DeviceError` if a
   * process has failed.
   */
  atMost(what: string, proposal?: number): Promise<number>;
  /** Waits for what all processes are needed for. Throws `DeviceError` if a process fails meanwhile. */
  together<T>(work: Promise<T>): Promise<T>;
  /** Tells the others that this process has failed, and why; then it belongs to the group no more. */
  fail(reason: string): Promise<void>;
}

/** How a device is opened. */
export interface DeviceOptions {
  /** The number of threads; by default one for each physical core. */
  threads?: number;
  /**
   * Called once if the device falls back to something slower, such as ONNX Runtime for decoding a model that does not fit into WebAssembly's
   * memory. By default the text becomes a warning of the process.
   */
  notice?: ((text: string) => void) | undefined;
  /** The precision of matrix products on `cuda`; `bfloat16` by default. */
  precision?: Precision;
  /** The number of GPUs on `cuda` that train together; 1 by default. */
  devices?: number;
  /** The other processes that `cuda` trains together with, each on as many GPUs. */
  group?: ProcessOptions;
  /** What is sharded over several GPUs: the batch (`data`, the default), or parameters and optimizer moments as well (`full`, as in FSDP). */
  shard?: 'data' | 'full';
  /** Makes runs on `cuda` give the same bits each time, which is slower. */
  deterministic?: boolean;
  /**
   * The share of a GPU's memory that `cuda` may allocate, on demand; by default that of `HEDDLE_GPU_MEMORY`, otherwise three quarters,
   * allocated at once.
   */
  memoryFraction?: number;
  /** Called before each compilation on `cuda`, which takes seconds. */
  onCompile?: () => void;
}

/** Compiles programs. Programs of one device share the memory of their weights, and may share states. */
export interface Device {
  readonly name: DeviceName;
  /** Whether each run copies its states, so that several steps in one run are faster. */
  readonly prefersLongRuns: boolean;
  /**
   * Whether runs are asynchronous: a run may be enqueued before an earlier run of the same states has finished, so that the device does not
   * idle.
   */
  readonly runsAhead: boolean;
  /** The processes that compute together with this one. */
  readonly group?: ProcessGroup | undefined;
  /** The size of the device's address space in bytes, if that is smaller than the machine's memory. */
  readonly addressable?: number;
  /**
   * Throws `DeviceError` for an input that the program does not declare, for weights of the wrong type or shape, and for a program that the
   * device has no memory for or cannot compute.
   */
  compile(program: Program): Promise<Executable>;
  /** Compiles a model's prefill and decoding programs. Throws as `compile` does. */
  compileDecoder(programs: DecoderPrograms): Promise<Decoder>;
  /** The memory in use on each GPU, if the executor reports it (XLA does). */
  gpuMemory?(): readonly DeviceMemory[];
  dispose(): Promise<void>;
}

/** Bytes of a device's memory. */
export interface MemoryUse {
  readonly inUse: number;
  /** The most bytes that were in use at one time. */
  readonly peak: number;
  /** The most bytes that this process may use. */
  readonly limit: number;
}

/** The memory of one GPU. */
export interface DeviceMemory extends MemoryUse {
  /** The GPU's kind, such as `NVIDIA H200`. */
  readonly kind: string;
}

/** The programs of a model, which have the same states and weights. */
export interface DecoderPrograms {
  /** Prefill: reads many tokens at once. */
  readonly read: Program;
  /** Prefill of a fixed number of tokens in each row: some layers compute less if the number is known at compile time. */
  readPiece(tokens: number): Program;
  /**
   * The same with another input, `taking` bool [batch]: rows where it is false keep their states, but for entries that are appended to
   * growing ones. The caller leaves the lengths of those as they were.
   */
  readSome(tokens: number): Program;
  /** Decoding: reads one token of each row, with the same inputs as `read`. */
  readonly write: Program;
  /**
   * `read` split into two programs: `layers`, and a head without states that takes its outputs. A device that prefills and decodes with
   * different executors then needs the weights of the head in only one of them.
   */
  readonly layers: Program;
  readonly head: Program;
}

/** Two executables with the same states: one prefills, one decodes token by token. */
export interface Decoder {
  readonly reader: Executable;
  readonly writer: Executable;
  /** The prefill chunk, in tokens, that is fastest on this device, if it has a preference. */
  readonly chunk?: number;
  /** Prefill of several texts of any lengths as one batch, if the device gains by it. */
  readonly together?: ReadsTogether;
  /** Generates several tokens in one run, if the device can sample. */
  readonly ahead?: WritesAhead;
}

/** Reading several texts side by side, on a device that has programs for some lengths and numbers of rows alone. */
export interface ReadsTogether {
  /** Tokens of each row in the pieces that a batch of so many rows reads most of its texts in; what is left is read in ever shorter ones. */
  piece(batch: number): number;
  /** Tokens that a state has room for which is to come to so many; 0 where states do not grow. The rows of a run get the room of the largest. */
  room(tokens: number): number;
  /**
   * Reads the tokens of each row, and returns the logits [vocabulary] behind its last one. There are programs for `batch` rows: fewer take as
   * long. A second run may be asked for before the first is done. Throws as `Executable.run` does; the states of the rows cannot be used then.
   */
  run(rows: readonly ReadingRow[], batch: number): Promise<(Float32Array | undefined)[]>;
}

/** A text, or a part of one, that is read beside others. */
export interface ReadingRow {
  readonly ids: readonly number[];
  /** How many tokens came before them. */
  readonly position: number;
  readonly state: State;
  /** How many tokens the state is expected to come to: it is given room for as many at once. */
  readonly expected: number;
  /** Whether the logits behind the last one are wanted. They are copied for a whole batch. */
  readonly needsLogits: boolean;
}

/** Generation on the device: it samples a token, reads it and continues, without a round trip for each token. */
export interface WritesAhead {
  /** The most tokens of a run. */
  readonly steps: number;
  /** The most stop tokens of a row. */
  readonly stops: number;
  /**
   * Each row reads its `id` at its `position` and generates until a token of `stops`, or `count` tokens. Its state has then read all of them
   * but the last. Throws as `Executable.run` does.
   */
  run(rows: readonly WritingRow[]): Promise<WrittenRow[]>;
}

/** The first token of a row, and its sampling parameters: as in generate/sampler.ts, in float32. */
export interface WritingRow {
  readonly id: number;
  readonly position: number;
  readonly state: State;
  readonly temperature: number;
  /** Top-k: at most 1024; 1 is greedy. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly stops: readonly number[];
  /** A uniform random number in [0, 1) for each token. */
  readonly uniforms: readonly number[];
}

/** What a device generated for one row. */
export interface WrittenRow {
  readonly ids: readonly number[];
  /** The logit of each token. */
  readonly chosen: readonly number[];
  /** The logits [vocabulary] from which the last token was sampled, if that token ended the row. */
  readonly logits?: Float32Array;
}

/** A compiled program. */
export interface Executable {
  /** Whether `newState` copies its arguments, so that they may be arrays that another state's `lend` returned. */
  readonly copiesInitial?: boolean;
  /**
   * A state with these values of one row, by name; others have the spec's initial value. Growing values hold `length` entries. The state
   * takes ownership of the arrays. Throws `DeviceError` for values of the wrong type or shape.
   */
  newState(initial?: ReadonlyMap<string, HostTensor>, length?: number): State;
  /**
   * Runs once and updates the states: rows[i] is the state of row i of the batch. A program whose states have no batch axis takes one row. A
   * state may come from another executable of the same device if it has all values of this program; its other values are unchanged. The
   * caller owns the outputs' arrays. Throws `DeviceError` for a feed that is missing, unknown or of another type, and leaves all states
   * unchanged.
   */
  run(
    feeds: Readonly<Record<string, HostTensor>>,
    rows?: readonly State[],
  ): Promise<Record<string, HostTensor>>;
  /** Compiles a program without symbolic dimensions now instead of at the first run. */
  prepare?(): Promise<void>;
  dispose(): Promise<void>;
}

/** The values that a program keeps for one row. */
export interface State {
  /** The number of entries of its growing values. */
  readonly length: number;
  /** Bytes of its values, including spare room and memory shared with forks. */
  readonly bytes: number;
  /** Bytes by the object that owns them. Memory that two states share has the same key in both, so that it can be counted once. */
  readonly holdings: ReadonlyMap<object, number>;
  /** An independent copy. Large values are copied on write. */
  fork(): State;
  /** Copies of the values by name (of `names`, or all); growing ones without spare room. */
  read(names?: readonly string[]): Promise<Map<string, HostTensor>>;
  /**
   * The values without a copy, if they are in host memory. The caller must not change them, and must copy them before the next run. A
   * growing value may have spare room behind its entries.
   */
  lend?(): ReadonlyMap<string, HostTensor> | undefined;
  /** Frees the values when the runs that use them have ended. A disposed state cannot be run, read or forked. */
  dispose(): void;
}

/** Pairs the tensors before and after a run, both by name, with the specs. */
export function stateChanges(
  specs: readonly StateSpec[],
  before: Readonly<Record<string, Tensor>>,
  after: Readonly<Record<string, Tensor>>,
): StateChange[] {
  return specs.map((spec) => ({ spec, before: before[spec.name]!, after: after[spec.name]! }));
}

/** The dimensions of one row of a state, with `length` entries on its growing axis. */
export function stateDims({ shape }: StateSpec, length: number): number[] {
  return shape.map((dim) => (dim === 'batch' ? 1 : dim === 'past' ? length : (dim as number)));
}
