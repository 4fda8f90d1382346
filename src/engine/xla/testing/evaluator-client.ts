/**
 * XLA's place in tests: a client that evaluates programs on the CPU. It is as strict as PJRT about types, and about arrays that were given
 * away. Several devices are one whose arrays are put together and taken apart as the program's annotations say.
 */
import {
  bfloat16ToFloat32,
  DTYPES,
  type DType,
  float32ToBfloat16,
  type HloElement,
  type TensorData,
} from '../../../graph/index.js';
import {
  type CompiledText,
  compileText,
  type Evaluated,
  type Observer,
} from '../../../graph/testing/stablehlo/evaluate.js';
import type { PjrtBuffer, PjrtClient, PjrtDevice, PjrtExecutable } from '../pjrt.js';

class EvaluatedBuffer implements PjrtBuffer {
  isGone = false;

  constructor(
    readonly value: Evaluated,
    readonly client: EvaluatorClient,
  ) {
    client.buffers.add(this);
  }

  get bytes(): number {
    return this.value.data.length * DTYPES[dtypeOf(this.value.type.element)].bytes;
  }

  async download(into: TensorData): Promise<void> {
    this.expectThere();
    into.set(toHost(this.value) as never);
  }

  async ready(): Promise<void> {
    this.expectThere();
  }

  dispose(): void {
    this.isGone = true;
    this.client.buffers.delete(this);
  }

  expectThere(): void {
    if (this.isGone) throw new Error('the array was disposed of, or given away');
  }
}

/** A client whose devices are the evaluator of StableHLO, for tests without a GPU. */
export class EvaluatorClient implements PjrtClient {
  readonly platform = 'cuda';
  readonly version = 'evaluator';
  readonly identity = 'evaluator';
  readonly devices: readonly PjrtDevice[];
  /** Arrays that are there. */
  readonly buffers = new Set<EvaluatedBuffer>();
  /** The texts that were compiled. */
  readonly texts: string[] = [];
  /** Is told what runs compute, if set. */
  observer: Observer | undefined;
  /** Fails the next run, if set. */
  failure: Error | undefined;

  constructor(count = 1) {
    this.devices = Array.from({ length: count }, (_, index) => ({
      index,
      kind: 'evaluator',
      memory: () => undefined,
    }));
  }

  async compile(text: string): Promise<PjrtExecutable> {
    this.texts.push(text);
    return new EvaluatedExecutable(compileText(text), this);
  }

  async deserialize(): Promise<PjrtExecutable> {
    throw new Error('nothing is serialized here');
  }

  upload(data: TensorData, dtype: DType, dims: readonly number[]): PjrtBuffer {
    if (!(data instanceof DTYPES[dtype].array)) throw new Error(`a ${data.constructor.name} is no ${dtype}`);
    if (data.length !== dims.reduce((a, b) => a * b, 1))
      throw new Error(`${data.length} elements for [${dims}]`);
    const numbers = dtype === 'bfloat16' ? bfloat16ToFloat32(data as Uint16Array) : data;
    const value = {
      type: { element: DTYPES[dtype].stablehlo, dims },
      data: Float64Array.from(numbers as ArrayLike<number | bigint>, Number),
    };
    return new EvaluatedBuffer(value, this);
  }

  dispose(): void {}
}

class EvaluatedExecutable implements PjrtExecutable {
  readonly results: number;

  constructor(
    private readonly program: CompiledText,
    private readonly client: EvaluatorClient,
  ) {
    this.results = program.resultTypes.length;
  }

  run(args: readonly (readonly PjrtBuffer[])[]): PjrtBuffer[][] {
    const { failure } = this.client;
    this.client.failure = undefined;
    if (failure) throw failure;
    const given = args as readonly (readonly EvaluatedBuffer[])[];
    for (const buffer of given.flat()) buffer.expectThere();
    const { program } = this;
    const whole = program.argumentTypes.map((_, i) =>
      together(
        given.map((own) => own[i]!.value),
        axisIn(program.argumentAttributes[i]!),
      ),
    );
    const results = program.run(whole, this.client.observer);
    for (const [i, attributes] of program.argumentAttributes.entries()) {
      if (attributes.includes('tf.aliasing_output')) for (const own of given) own[i]!.isGone = true;
    }
    return given.map((_, device) =>
      results.map((result, i) => {
        const axis = axisIn(program.resultAttributes[i]!);
        return new EvaluatedBuffer(
          axis === undefined ? result : part(result, axis, device, given.length),
          this.client,
        );
      }),
    );
  }

  serialize(): Uint8Array {
    throw new Error('nothing is serialized here');
  }

  dispose(): void {}
}

function dtypeOf(element: HloElement): DType {
  return (Object.keys(DTYPES) as DType[]).find((dtype) => DTYPES[dtype].stablehlo === element)!;
}

function toHost({ type, data }: Evaluated): TensorData {
  const dtype = dtypeOf(type.element);
  if (dtype === 'bfloat16') return float32ToBfloat16(Float32Array.from(data));
  if (dtype === 'int64') return BigInt64Array.from(Array.from(data, BigInt));
  return DTYPES[dtype].array.from(data as never) as TensorData;
}

/** The axis that the annotation in an argument's attributes cuts. */
function axisIn(attributes: string): number | undefined {
  const list = /<@mesh, \[(.*)\]>/.exec(attributes)?.[1];
  const axis = list?.split(', ').indexOf('{"devices"}') ?? -1;
  return axis < 0 ? undefined : axis;
}

function together(parts: readonly Evaluated[], axis: number | undefined): Evaluated {
  const [first] = parts as [Evaluated];
  if (axis === undefined) {
    if (parts.some(({ data }) => data.some((value, i) => !Object.is(value, first.data[i]))))
      throw new Error('devices were given different copies of what they all have');
    return first;
  }
  const dims = first.type.dims.map((size, i) => (i === axis ? size * parts.length : size));
  const inner = first.type.dims.slice(axis).reduce((a, b) => a * b, 1);
  const data = new Float64Array(first.data.length * parts.length);
  for (const [i, part] of parts.entries()) {
    for (let from = 0; from < part.data.length; from += inner)
      data.set(part.data.subarray(from, from + inner), from * parts.length + i * inner);
  }
  return { type: { ...first.type, dims }, data };
}

function part({ type, data }: Evaluated, axis: number, index: number, parts: number): Evaluated {
  const dims = type.dims.map((size, i) => (i === axis ? size / parts : size));
  const inner = dims.slice(axis).reduce((a, b) => a * b, 1);
  const own = new Float64Array(data.length / parts);
  for (let to = 0; to < own.length; to += inner) {
    const from = to * parts + index * inner;
    own.set(data.subarray(from, from + inner), to);
  }
  return { type: { ...type, dims }, data: own };
}
