/** The law that every mixer obeys: whole = in chunks = token by token = restored in the middle. */
import { expect } from 'vitest';
import {
  type Carry,
  type Device,
  type Executable,
  type HostTensor,
  hostZeros,
  int64,
  type Memory,
} from '../../engine/index.js';
import { input, type Tensor } from '../../graph/index.js';
import type { Mixer, StateSpec } from '../mixer.js';
import { fillWith, ParameterRegistry } from '../parameters.js';
import { Random } from '../random.js';

export interface LawOptions {
  hiddenSize: number;
  batch: number;
  sequence: number;
  seed?: number;
  tolerance?: number;
}

/** Norm of the difference over the norm of the reference. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / Math.max(norm, 1e-30));
}

export function initialState(specs: readonly StateSpec[], batch: number): Map<string, HostTensor> {
  return new Map(
    specs.map(({ name, dtype, shape, initial }) => {
      const value = hostZeros(
        dtype,
        shape.map((dim) => (dim === 'batch' ? batch : dim === 'past' ? 1 : (dim as number))),
      );
      (value.data as Float32Array).fill(initial);
      return [name, value];
    }),
  );
}

function stateInputsOf(mixer: Mixer): Record<string, Tensor> {
  return Object.fromEntries(
    mixer.state.map(({ name, dtype, shape }) => [
      name,
      input(
        name,
        dtype,
        shape.map((dim) => (dim === 'past' ? 'room' : dim)),
      ),
    ]),
  );
}

/** Proves the law for a mixer with random weights and inputs; returns the largest error seen. */
export async function checkLaw(device: Device, mixer: Mixer, options: LawOptions): Promise<void> {
  const { hiddenSize, batch, sequence, seed = 1, tolerance = 1e-5 } = options;
  const random = new Random(seed);
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
  const position = input('position', 'int64', []);
  const state = stateInputsOf(mixer);
  const streaming = mixer.forward(registry.root(), x, { state, position });
  const masked = mixer.forward(registry.root(), x, { position });
  const weights = new Map(
    [...registry.specs].map(([name, { shape, initialize }]) => {
      const data = initialize(random, shape);
      // Larger than at the start of training, so that errors show.
      if (shape.length === 2) for (let i = 0; i < data.length; i++) data[i] = 0.3 * random.normal();
      return [name, { dtype: 'float32', dims: shape, data } as HostTensor];
    }),
  );
  const carried = Object.fromEntries(
    mixer.state.map(({ name, grows }): [string, Carry] => [
      name,
      grows === undefined
        ? { kind: 'replace', next: streaming.state[name]! }
        : { kind: 'append', rows: streaming.state[name]!, axis: grows },
    ]),
  );
  const streamed = await device.compile({ outputs: { y: streaming.output }, carried, weights });
  const parallel = await device.compile({ outputs: { y: masked.output }, weights });
  const values = fillWith([batch, sequence, hiddenSize], () => random.normal());
  const rows = (from: number, to: number): HostTensor => {
    const data = new Float32Array(batch * (to - from) * hiddenSize);
    for (let b = 0; b < batch; b++) {
      const start = (b * sequence + from) * hiddenSize;
      data.set(values.subarray(start, start + (to - from) * hiddenSize), b * (to - from) * hiddenSize);
    }
    return { dtype: 'float32', dims: [batch, to - from, hiddenSize], data };
  };
  const step = async (executable: Executable, from: number, to: number, memory?: Memory) => {
    const feeds: Record<string, HostTensor> = { x: rows(from, to) };
    if (executable.inputs.has('position')) feeds.position = int64([from], []);
    return (await executable.run(feeds, memory)).y!.data as Float32Array;
  };

  const whole = await step(parallel, 0, sequence);
  const inChunks = async (sizes: (at: number) => number, restoreAt?: number): Promise<Float32Array> => {
    let memory = streamed.allocate(initialState(mixer.state, batch));
    const output = new Float32Array(values.length);
    let at = 0;
    while (at < sequence) {
      const end = Math.min(sequence, at + sizes(at));
      if (restoreAt !== undefined && at >= restoreAt) {
        restoreAt = undefined;
        memory = streamed.allocate(await memory.read(), at);
      }
      const y = await step(streamed, at, end, memory);
      for (let b = 0; b < batch; b++) {
        const part = y.subarray(b * (end - at) * hiddenSize, (b + 1) * (end - at) * hiddenSize);
        output.set(part, (b * sequence + at) * hiddenSize);
      }
      at = end;
    }
    return output;
  };
  const pieces = [5, 1, 11, 2, 23];
  let piece = 0;
  expect(relativeError(await inChunks(() => sequence), whole), 'whole with a state').toBeLessThan(tolerance);
  expect(relativeError(await inChunks(() => 1), whole), 'token by token').toBeLessThan(tolerance);
  const chunked = await inChunks(() => pieces[piece++ % pieces.length]!);
  expect(relativeError(chunked, whole), 'in chunks').toBeLessThan(tolerance);
  piece = 0;
  const restored = await inChunks(() => pieces[piece++ % pieces.length]!, Math.floor(sequence / 2));
  expect(restored, 'restored in the middle').toEqual(chunked);
}
