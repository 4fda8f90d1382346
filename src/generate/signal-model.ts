/**
 * A model of series, images or sounds, with its weights on a device. A session reads a stream in pieces and keeps its state, which can be
 * forked, saved and restored like that of a text.
 */
import { openSafetensors } from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  type HostTensor,
  int64,
  type State,
  type Weight,
} from '../engine/index.js';
import { CheckpointError, ConfigError, DataError, SnapshotError } from '../errors.js';
import { input } from '../graph/index.js';
import {
  type Fingerprint,
  fingerprintOf,
  type Modality,
  type Model,
  modalityInputs,
  perceive,
  withModelCache,
  wrongKind,
} from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { disposedModel } from './disposed.js';
import { type LoadOptions, loadNamed, type OpenedModel } from './loading.js';
import { modelState } from './model-state.js';
import {
  checkLayout,
  layoutOf,
  metadataOf,
  readStateFile,
  stateTensors,
  writeStateFile,
} from './state-file.js';

/** Loads a model from a folder. Throws `ConfigError` for a model of text, otherwise as `loadModel` does. */
export async function loadSignalModel(name: string, options: LoadOptions = {}): Promise<SignalModel> {
  return loadNamed(name, options, SignalModel.load);
}

/** A loaded model of series, images or sounds. */
export class SignalModel {
  private isDisposed = false;

  private constructor(
    readonly model: Model,
    readonly modality: Modality,
    readonly fingerprint: Fingerprint,
    private readonly executable: Executable,
    private readonly device: Device,
    private readonly ownsDevice: boolean,
  ) {}

  /** Compiles a model from opened files. Throws as `compile` does. */
  static load({ model, weights, device, ownsDevice, cache }: OpenedModel): Promise<SignalModel> {
    return SignalModel.compile(cache ? withModelCache(model, cache) : model, weights, device, ownsDevice);
  }

  /** Throws `ConfigError` for a model of text. With `ownsDevice` the device is disposed of with the model. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    device: Device,
    ownsDevice = false,
  ): Promise<SignalModel> {
    const { modality } = model;
    if (!modality) throw wrongKind('text', ['series', 'sounds', 'images']);
    if (model.looksAhead)
      throw new ConfigError(
        `the layers of this model (${model.pattern}) look ahead: it cannot read a stream piece by piece`,
      );
    const inputs = modalityInputs(modality);
    const kept = modelState(model);
    const position = input('position', 'int64', ['batch']);
    const { said, state } = perceive(model, new ParameterRegistry(), inputs, position, kept.given);
    const fingerprint = await fingerprintOf(model, weights);
    const executable = await device.compile({
      inputs: [...Object.values(inputs), position],
      outputs: said,
      ...kept.changedTo(state),
      weights,
    });
    return new SignalModel(model, modality, fingerprint, executable, device, ownsDevice);
  }

  /** A new session. */
  session(): SignalSession {
    this.expectAlive();
    return new SignalSession(this, this.executable, this.executable.newState(), 0);
  }

  /** Restores a saved session, and the further tensors that were saved with it. Throws `SnapshotError` as for texts. */
  async restore(path: string): Promise<{ session: SignalSession; extra: Map<string, HostTensor> }> {
    try {
      const file = await openSafetensors(path);
      try {
        const { metadata, values } = await readStateFile(path, file, this);
        const position = Number(metadata.position);
        if (!(Number.isSafeInteger(position) && position >= 0))
          throw new SnapshotError(`${path} does not say how much was read: save the state again`);
        const layout = layoutOf(this, position);
        checkLayout(path, values, layout);
        const own = new Map(layout.map(({ name }) => [name, values.get(name)!]));
        const state = this.executable.newState(own, position);
        const extra = new Map([...values].filter(([name]) => !own.has(name)));
        return { session: new SignalSession(this, this.executable, state, position), extra };
      } finally {
        await file.close();
      }
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      throw new SnapshotError(`no state can be read: ${error.message}`, { cause: error });
    }
  }

  /** Throws `DeviceError` once the model is disposed of. */
  expectAlive(): void {
    if (this.isDisposed) throw disposedModel();
  }

  async dispose(): Promise<void> {
    this.isDisposed = true;
    await this.executable.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
}

/** The most positions of one run. */
const MOST_POSITIONS = 512;

/** A stream, and its state. */
export class SignalSession {
  /** Serializes the calls of this session. */
  private last: Promise<unknown> = Promise.resolve();
  private waiting = 0;

  constructor(
    readonly owner: SignalModel,
    private readonly executable: Executable,
    private readonly state: State,
    private positions: number,
  ) {}

  /** The number of positions read. */
  get position(): number {
    return this.positions;
  }

  /** The bytes of the state. */
  get bytes(): number {
    return this.state.bytes;
  }

  /**
   * Reads `count` positions, inputs [1, count, ...] by the names of the modality, after pending calls. Returns the model's outputs. If it
   * throws, nothing was read.
   */
  read(inputs: Readonly<Record<string, HostTensor>>, count: number): Promise<Record<string, HostTensor>> {
    return this.inTurn(() => this.run(inputs, count));
  }

  /**
   * Reads positions in pieces, for use within `inTurn`. `heard` is called with the model's outputs for each piece, and the number of positions
   * read so far. If a piece cannot be read, those before it stay read. `further` makes more inputs of so many positions, for each piece: those
   * that are too large to be made at once.
   */
  async readInPieces(
    inputs: Readonly<Record<string, HostTensor>>,
    count: number,
    heard: (said: Readonly<Record<string, HostTensor>>, done: number) => void,
    further: (positions: number) => Readonly<Record<string, HostTensor>> = () => ({}),
  ): Promise<void> {
    for (let first = 0; first < count; first += MOST_POSITIONS) {
      const size = Math.min(MOST_POSITIONS, count - first);
      const piece = Object.fromEntries(
        Object.entries(inputs).map(([name, input]) => [name, positionsOf(input, first, size)]),
      );
      heard(await this.run({ ...piece, ...further(size) }, size), first + size);
    }
  }

  private async run(
    inputs: Readonly<Record<string, HostTensor>>,
    count: number,
  ): Promise<Record<string, HostTensor>> {
    this.owner.expectAlive();
    const position = int64([this.positions], [1]);
    const said = await this.executable.run({ ...inputs, position }, [this.state]);
    this.positions += count;
    return said;
  }

  /** Runs `work` after all earlier calls: concurrent reads would interleave their positions. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.waiting++;
    const result = this.last.then(work).finally(() => {
      this.waiting--;
    });
    this.last = result.catch(() => undefined);
    return result;
  }

  /** An independent session with the same state. Throws `DataError` while this one is busy. */
  fork(): SignalSession {
    if (this.waiting > 0)
      throw new DataError('the stream is being read: wait until what was asked of it is done');
    return this.copy();
  }

  /** `fork` for use within `inTurn`. */
  copy(): SignalSession {
    return new SignalSession(this.owner, this.executable, this.state.fork(), this.positions);
  }

  /** Saves the state as one file, atomically, after pending calls. */
  save(path: string): Promise<void> {
    return this.inTurn(() => this.write(path));
  }

  /** `save` for use within `inTurn`, with further float32 tensors. */
  async write(path: string, extra: ReadonlyMap<string, HostTensor> = new Map()): Promise<void> {
    const further = [...extra].map(([name, { dims, data }]) => ({
      name,
      dtype: 'F32' as const,
      shape: dims,
      data: data as Float32Array,
    }));
    const tensors = [...stateTensors(this.owner, this.state, this.positions), ...further];
    await writeStateFile(path, tensors, metadataOf(this.owner, { position: String(this.positions) }));
  }

  dispose(): void {
    this.state.dispose();
  }
}

/** A slice of an input [1, positions, ...]. */
function positionsOf({ dtype, dims, data }: HostTensor, first: number, size: number): HostTensor {
  const each = data.length / dims[1]!;
  return {
    dtype,
    dims: [1, size, ...dims.slice(2)],
    data: data.subarray(first * each, (first + size) * each),
  };
}
