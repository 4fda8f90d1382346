/** Devices on ONNX Runtime: its CPU and WebGPU execution providers. */
import type { InferenceSession } from 'onnxruntime-common';
import { DeviceError } from '../../errors.js';
import {
  input,
  inputName,
  type OnnxModel,
  scalar,
  type Tensor,
  toOnnx,
  topologicalOrder,
} from '../../graph/index.js';
import { checkWeight } from '../check.js';
import { compileAll } from '../compile-all.js';
import type {
  Decoder,
  DecoderPrograms,
  Device,
  DeviceOptions,
  Executable,
  OrtName,
  Program,
} from '../program.js';
import { StoredFiles } from '../stored-files.js';
import { isQuantized, type Weight } from '../tensors.js';
import { deviceError } from './errors.js';
import { type Layout, OrtExecutable } from './executable.js';
import { onnxRuntime } from './loaded.js';
import { mirrorsOf } from './mirror.js';
import { NO_PACKING, pack, packingOf } from './packing.js';
import { integerProductsSaturate } from './saturation.js';
import { planWeights, type WeightPlan } from './weights.js';

/**
 * The fused operators beyond the ONNX standard that each execution provider has a kernel for, and the standard ones that only some
 * implement correctly. On the CPU, ScatterND with reduction=add loses updates of equal indices (a data race between threads),
 * LinearAttention is slow with one channel a head, and CausalConvWithState takes two to three times as long as Conv.
 */
export const FUSED: Record<OrtName, ReadonlySet<string>> = {
  cpu: new Set([
    'AttentionInBlocks',
    'FusedMatMul',
    'LogSoftmax',
    'QuickGelu',
    'FastGelu',
    'Conv',
    'LinearAttention',
    'MatMulIntegerToFloat',
    'MoE',
    'NonZero',
    'ReduceSumSquare',
    'SelectiveScanLoop',
    'SimplifiedLayerNormalization',
    'SimplifiedLayerNormalization+inverse',
    'SkipSimplifiedLayerNormalization',
    'Slice',
    'Softmax',
    'Split',
  ]),
  // Without SkipSimplifiedLayerNormalization, which does not write its optional second output on WebGPU.
  webgpu: new Set([
    'QuickGelu',
    'CausalConvWithState',
    'CausalConvWithState+silu',
    'CausalConvWithState+token',
    'LinearAttention',
    'LinearAttention+channels',
    'ReduceSumSquare',
    'ScatterND',
    'SimplifiedLayerNormalization',
    'Slice',
    'Softmax',
    'Split',
  ]),
};

/** Prefix of the names of outputs that hold new states. */
const STATE = 'state/';
const MIRROR = 'mirror/';
const PACKED = 'packed';
/** The input with the number of entries of each row, if the program does not declare `lengths` itself. */
const LENGTHS = 'state/lengths';

/** ONNX Runtime on the CPU or, through WebGPU, on a GPU. */
export class OrtDevice implements Device {
  /** On the CPU each run copies its states from and to JavaScript's memory. */
  readonly prefersLongRuns: boolean;
  readonly runsAhead = false;

  constructor(
    readonly name: OrtName,
    readonly options: DeviceOptions,
  ) {
    this.prefersLongRuns = name === 'cpu';
  }

  /** Throws `DeviceError` if there is no WebGPU adapter, before a model is loaded. */
  async probe(): Promise<void> {
    const executable = await this.compile({ inputs: [], outputs: { one: scalar(1) } });
    await executable.dispose();
  }

  async compile(program: Program): Promise<Executable> {
    const { inputs, outputs, state = [], dims = {}, weights = new Map<string, Weight>() } = program;
    const onGpu = this.name === 'webgpu';
    const rows = state.every(({ spec }) => spec.shape[0] === 'batch') ? 'batch' : 1;
    const { lengths = input(LENGTHS, 'int64', [rows]) } = program;
    const moving = state.filter(({ before, after }) => before !== after);
    const values: Record<string, Tensor> = { ...outputs };
    const staying = new Set<string>();
    for (const { spec, after } of moving) {
      values[STATE + spec.name] = after;
      if (spec.grows === undefined) staying.add(STATE + spec.name);
    }
    const mirrors = onGpu ? mirrorsOf(values, moving, lengths) : new Map<string, Tensor>();
    for (const [name, mirror] of mirrors) {
      values[MIRROR + name] = mirror;
      staying.add(MIRROR + name);
    }
    const packing = onGpu ? packingOf(values, { inputs, dims, staying }) : NO_PACKING;
    const returned = pack(values, packing, PACKED);
    const used = usedBy(Object.values(returned), weights);
    const files = await StoredFiles.open(used.values());
    const plan = await planWeights(used);
    const model = toOnnx(returned, { fused: FUSED[this.name], dims, sizes: inputs, weights: plan.sources });
    for (const type of model.weights) checkWeight(type, weights.get(type.name)!);
    const layout: Layout = {
      inputs: fedInputs(model, program, lengths),
      outputs: Object.keys(outputs),
      state: state.map(({ spec, before, after }) => ({
        spec,
        resolved: before.shape.map((dim) => dims[dim] ?? dim),
        ...(before !== after && { output: STATE + spec.name }),
        ...(mirrors.has(spec.name) && { mirror: MIRROR + spec.name }),
      })),
      lengths: inputName(lengths)!,
      packing,
      packed: PACKED,
    };
    try {
      await plan.prepare();
      const session = await this.createSession(model, plan, onGpu ? staying : undefined);
      try {
        await files.expectUnchanged();
      } catch (error) {
        await session.release();
        throw error;
      }
      return new OrtExecutable(session, model, layout, this);
    } finally {
      await plan.release();
    }
  }

  /**
   * One session prefills and decodes, so that the weights are in memory once. 4-bit weights on the CPU are an exception: prefill is faster
   * with the codes widened to 8-bit integers, and decoding with the codes themselves, which are fewer bytes to read. Decoding then has a
   * session of its own.
   */
  async compileDecoder({ read, write }: DecoderPrograms): Promise<Decoder> {
    const hasTwoForms = this.name === 'cpu' && [...(read.weights?.values() ?? [])].some(isQuantized);
    const [reader, writer = reader!] = await compileAll(
      () => this.compile(read),
      ...(hasTwoForms ? [() => this.compile(write)] : []),
    );
    return { reader: reader!, writer };
  }

  async dispose(): Promise<void> {}

  /** `staying` are the outputs that stay in GPU memory, if there is a GPU. */
  private async createSession(
    model: OnnxModel,
    plan: WeightPlan,
    staying: ReadonlySet<string> | undefined,
  ): Promise<InferenceSession> {
    const locations = model.outputs.map(
      ({ name }) => [name, staying?.has(name) ? 'gpu-buffer' : 'cpu'] as const,
    );
    const hasIntegers = [...plan.sources.values()].some((source) => 'integers' in source);
    try {
      return await onnxRuntime().InferenceSession.create(model.bytes, {
        executionProviders: [this.name],
        logSeverityLevel: 4,
        // The memory plan of a whole run is allocated in addition to the arena: a fifth more memory at the peak of a training step, at the
        // same speed.
        enableMemPattern: false,
        ...(this.options.threads !== undefined && { intraOpNumThreads: this.options.threads }),
        ...(plan.handedOver.length > 0 && { externalData: plan.handedOver }),
        extra: {
          session: {
            ...(hasIntegers && (await integerProductsSaturate()) && { x64quantprecision: '1' }),
            ...(plan.root !== undefined && { model_external_initializers_file_folder_path: plan.root }),
          },
        },
        ...(staying && { preferredOutputLocation: Object.fromEntries(locations) }),
      });
    } catch (error) {
      throw deviceError(this.name, error);
    }
  }
}

/** The weights that the results depend on. */
function usedBy(results: readonly Tensor[], weights: ReadonlyMap<string, Weight>): Map<string, Weight> {
  const names = new Set(topologicalOrder(results).map(({ outputs }) => inputName(outputs[0]!)));
  return new Map([...weights].filter(([name]) => names.has(name)));
}

/** The inputs that callers feed. Throws `DeviceError` if the graph has one that the program does not declare. */
function fedInputs(model: OnnxModel, { inputs, state = [] }: Program, lengths: Tensor): ReadonlySet<string> {
  const fed = new Set(inputs.map((tensor) => inputName(tensor)!));
  const own = new Set([...state.map(({ before }) => before), lengths].map((tensor) => inputName(tensor)!));
  const undeclared = model.inputs.find(({ name }) => !fed.has(name) && !own.has(name));
  if (undeclared)
    throw new DeviceError(`the program uses an input '${undeclared.name}' that it does not declare`);
  return fed;
}
