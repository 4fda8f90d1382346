/**
 * A model of something other than text, with its weights on a device. A session reads a stream piece by piece and keeps a
 * state of it, which can be forked, saved and gone on from as that of a text can.
 */
import { openSafetensors } from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  type HostTensor,
  int64,
  openDevice,
  type State,
  stateChanges,
  type Weight,
} from '../engine/index.js';
import { CheckpointError, ConfigError, SnapshotError } from '../errors.js';
import { input } from '../graph/index.js';
import {
  type Fingerprint,
  fingerprintOf,
  type Modality,
  type Model,
  modalityInputs,
  modelFolder,
  openModel,
  perceive,
  stateInputs,
} from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { type LoadOptions, QUANTIZATIONS } from './language-model.js';
import { checkLayout, layoutOf, readStateFile, stateTensors, writeStateFile } from './snapshot.js';

/** Loads one of a folder. Throws `ConfigError` for a model of text; else as `loadModel` does. */
export async function loadSignalModel(name: string, options: LoadOptions = {}): Promise<SignalModel> {
  const { device: asked = 'cpu', quantize } = options;
  const quantization = typeof quantize === 'string' ? QUANTIZATIONS[quantize] : quantize;
  const { model, weights } = await openModel(modelFolder(name), undefined, quantization);
  const device = typeof asked === 'string' ? await openDevice(asked, options) : asked;
  return SignalModel.compile(model, weights, device, typeof asked === 'string');
}

/** A loaded model of something other than text, which reads positions of numbers. */
export class SignalModel {
  private constructor(
    readonly model: Model,
    readonly modality: Modality,
    readonly fingerprint: Fingerprint,
    private readonly executable: Executable,
    private readonly device: Device,
    private readonly ownsDevice: boolean,
  ) {}

  /** Throws `ConfigError` for a model of text. With `ownsDevice` the device is disposed of with the model. */
  static async compile(
    model: Model,
    weights: ReadonlyMap<string, Weight>,
    device: Device,
    ownsDevice = false,
  ): Promise<SignalModel> {
    const { modality } = model;
    if (!modality)
      throw new ConfigError('this is a model of text: it is run by `generate`, `chat` and `serve`');
    if (model.looksAhead)
      throw new ConfigError(
        `the layers of this model (${model.pattern}) look ahead: it cannot read a stream piece by piece`,
      );
    const inputs = modalityInputs(modality);
    const before = stateInputs(model);
    const position = input('position', 'int64', ['batch']);
    const lengths = model.state.some(({ grows }) => grows !== undefined)
      ? input('lengths', 'int64', ['batch'])
      : undefined;
    const { said, state } = perceive(model, new ParameterRegistry(), inputs, position, {
      state: before,
      lengths,
    });
    const executable = await device.compile({
      inputs: [...Object.values(inputs), position],
      outputs: said,
      state: stateChanges(model.state, before, state),
      ...(lengths && { lengths }),
      weights,
    });
    return new SignalModel(
      model,
      modality,
      await fingerprintOf(model, weights),
      executable,
      device,
      ownsDevice,
    );
  }

  /** A stream of which nothing was read. */
  session(): SignalSession {
    return new SignalSession(this, this.executable, this.executable.newState(), 0);
  }

  /** A session where another one was saved, and the tensors that were saved with it. Throws `SnapshotError`, as for texts. */
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

  async dispose(): Promise<void> {
    await this.executable.dispose();
    if (this.ownsDevice) await this.device.dispose();
  }
}

/** One sequence of positions, and the state that it left. */
export class SignalSession {
  /** Runs of one session are made one after the other. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly owner: SignalModel,
    private readonly executable: Executable,
    private readonly state: State,
    private positions: number,
  ) {}

  /** Positions that were read. */
  get position(): number {
    return this.positions;
  }

  /** Bytes of what is kept of the stream. */
  get bytes(): number {
    return this.state.bytes;
  }

  /**
   * Reads `count` positions, inputs [1, count, ...] by the names of the modality; returns what the model says of each. Where it
   * throws, nothing was read.
   */
  read(inputs: Readonly<Record<string, HostTensor>>, count: number): Promise<Record<string, HostTensor>> {
    const run = this.last.then(async () => {
      const position = int64([this.positions], [1]);
      const said = await this.executable.run({ ...inputs, position }, [this.state]);
      this.positions += count;
      return said;
    });
    this.last = run.catch(() => undefined);
    return run;
  }

  /** Another session that read the same; each goes on by itself. */
  fork(): SignalSession {
    return new SignalSession(this.owner, this.executable, this.state.fork(), this.positions);
  }

  /** Writes what was kept as one file, with further float32 tensors, whole or not at all. */
  async save(path: string, extra: ReadonlyMap<string, HostTensor> = new Map()): Promise<void> {
    await this.last;
    const further = [...extra].map(([name, { dims, data }]) => ({
      name,
      dtype: 'F32' as const,
      shape: dims,
      data: data as Float32Array,
    }));
    const tensors = [...stateTensors(this.owner, this.state, this.positions), ...further];
    await writeStateFile(path, this.owner, tensors, { position: String(this.positions) });
  }

  dispose(): void {
    this.state.dispose();
  }
}
