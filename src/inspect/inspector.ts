/** Makes traces of one model. What it needs is compiled when it is first asked for, beside what the model itself runs on. */
import {
  type Device,
  type Executable,
  type HostTensor,
  int64,
  isQuantized,
  type Weight,
} from '../engine/index.js';
import { DataError, InspectError } from '../errors.js';
import { LAYER_NAMES, type Model } from '../models/index.js';
import { attributionProgram } from './attribution.js';
import { deletionTest, type Reader } from './deletion.js';
import { horizons } from './horizon.js';
import { type TracedPart, type TraceProgram, traceProgram, type Wanted } from './program.js';
import { seenUntil } from './selection.js';
import type { AttributionOf, LensOf, Token, Trace, TracedLayerOf, TracedMixerOf, Values } from './trace.js';

export interface TraceOptions {
  /** Layers to look into, from 0; all by default. */
  layers?: readonly number[];
  /** Heads to show; by default all, or of a layer in which every channel is a head 16 that stand for all. */
  heads?: readonly number[];
  /** Whether to make the matrices [heads, tokens, tokens], by far the largest part; they are made by default. */
  matrices?: boolean;
  /** How many tokens the logit lens shows for each layer and place: 5 by default, 0 for no lens. */
  lens?: number;
  /**
   * Places of tokens whose sources are looked for, from 1; that behind the last token stands for what the model would
   * say next. None by default: each takes a backward pass, and a hundred readings for the deletion test.
   */
  attribute?: readonly number[];
  /** What the trace may take in memory: 2 GB by default. */
  maxBytes?: number;
}

/** The model that is looked into. */
export interface Subject {
  readonly model: Model;
  readonly device: Device;
  readonly weights: () => Promise<ReadonlyMap<string, Weight>>;
  readonly read: Reader;
  readonly textOf: (id: number) => string;
}

const MAX_BYTES = 2e9;
const LENS_TOP = 5;

interface Compiled {
  readonly key: string;
  readonly plan: TraceProgram;
  readonly executable: Executable;
}

export class Inspector {
  private tracing: Compiled | undefined;
  private attributing: Executable | undefined;
  /** One trace after the other: they share what is compiled. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly subject: Subject) {}

  /** See `LanguageModel.trace`. */
  trace(ids: readonly number[], options: TraceOptions = {}): Promise<Trace> {
    const result = this.last.then(() => this.make(ids, options));
    this.last = result.catch(() => {});
    return result;
  }

  async dispose(): Promise<void> {
    await this.last;
    await this.tracing?.executable.dispose();
    await this.attributing?.dispose();
  }

  private async make(ids: readonly number[], options: TraceOptions): Promise<Trace> {
    if (ids.length === 0) throw new DataError('there are no tokens to trace: give one at least');
    const { model } = this.subject;
    const wanted = this.wanted(options);
    const attribute = this.places(ids, options.attribute ?? []);
    const weights = await this.subject.weights();
    if (attribute.length > 0) expectGradients(weights);
    const { plan, executable } = await this.compiled(
      wanted,
      weights,
      ids.length,
      options.maxBytes ?? MAX_BYTES,
    );
    const values = await executable.run({
      ids: int64(ids, [1, ids.length]),
      next: int64([...ids.slice(1), 0], [ids.length]),
    });
    const logProbabilities = values.logProbabilities!.data as Float32Array;
    const attributions: AttributionOf<Values>[] = [];
    for (const place of attribute) attributions.push(await this.attribution(ids, place, weights));
    return {
      model: { type: model.modelType, pattern: model.pattern },
      tokens: ids.map((id, i) => ({
        ...this.token(id),
        ...(i > 0 && { logProbability: logProbabilities[i - 1]! }),
      })),
      layers: model.layers.map(({ letters }, index): TracedLayerOf<Values> => {
        const own = plan.parts.filter(({ layer }) => layer === index);
        return { index, letters, mixers: own.map((part) => mixerOf(part, values, ids.length)) };
      }),
      ...(plan.lens.length > 0 && { lens: this.lensOf(plan.lens, values) }),
      attributions,
    };
  }

  private token(id: number): Token {
    return { id, text: this.subject.textOf(id) };
  }

  /** Throws `InspectError` for layers that the model does not have, and counts that are none. */
  private wanted({ layers, heads, matrices = true, lens = LENS_TOP }: TraceOptions): Wanted {
    const { layers: all, vocabSize } = this.subject.model;
    const wrong = layers?.find((layer) => !(Number.isInteger(layer) && layer >= 0 && layer < all.length));
    if (wrong !== undefined) {
      throw new InspectError(`there is no layer ${wrong}: the model has layers 0 to ${all.length - 1}`);
    }
    const head = heads?.find((index) => !(Number.isInteger(index) && index >= 0));
    if (head !== undefined) throw new InspectError(`there is no head ${head}: heads are counted from 0`);
    if (!(Number.isInteger(lens) && lens >= 0)) {
      throw new InspectError(`the lens is to show ${lens} tokens: expected a whole number, 0 or more`);
    }
    return {
      layers: layers ? ascending(layers) : all.map((_, i) => i),
      heads: heads && ascending(heads),
      matrices,
      top: Math.min(lens, vocabSize),
    };
  }

  private places(ids: readonly number[], places: readonly number[]): readonly number[] {
    const wrong = places.find((place) => !(Number.isInteger(place) && place >= 1 && place <= ids.length));
    if (wrong === undefined) return places;
    throw new InspectError(
      `the sources of token ${wrong} cannot be looked for: expected a place from 1 to ${ids.length}, the one behind the last token`,
    );
  }

  /** Throws `InspectError` where a trace of this many tokens would take more than `maxBytes`. */
  private async compiled(
    wanted: Wanted,
    weights: ReadonlyMap<string, Weight>,
    tokens: number,
    maxBytes: number,
  ): Promise<Compiled> {
    const { model, device } = this.subject;
    const key = JSON.stringify(wanted);
    const known = this.tracing?.key === key ? this.tracing : undefined;
    const plan = known?.plan ?? traceProgram(model, weights, wanted);
    const bytes = traceBytes(plan.parts, wanted, tokens, model.vocabSize);
    if (bytes > maxBytes) {
      throw new InspectError(
        `a trace of ${tokens} tokens would take ${(bytes / 1e9).toPrecision(3)} GB, but ${(maxBytes / 1e9).toPrecision(3)} GB are allowed (maxBytes): give fewer tokens, layers or heads, or go without matrices`,
      );
    }
    if (known) return known;
    await this.tracing?.executable.dispose();
    this.tracing = undefined;
    const executable = await device.compile(plan.program);
    this.tracing = { key, plan, executable };
    return this.tracing;
  }

  private async attribution(
    ids: readonly number[],
    place: number,
    weights: ReadonlyMap<string, Weight>,
  ): Promise<AttributionOf<Values>> {
    const { model, device, read } = this.subject;
    const before = ids.slice(0, place);
    const target = ids[place] ?? likeliest(await read([before]));
    this.attributing ??= await device.compile(attributionProgram(model, weights));
    const { logProbability, scores } = await this.attributing.run({
      ids: int64(before, [1, place]),
      target: int64([target], [1]),
    });
    const found = scores!.data as Float32Array;
    const deletion = await deletionTest(before, target, found, read);
    return {
      position: place,
      token: this.token(target),
      logProbability: logProbability!.data[0] as number,
      scores: { dims: [place], data: found },
      ...(deletion && { deletion }),
    };
  }

  private lensOf(layers: readonly number[], values: Readonly<Record<string, HostTensor>>): LensOf<Values> {
    const ids = values['lens.ids']!;
    const found = new Set(ids.data as Int32Array);
    return {
      layers,
      ids: { dims: ids.dims, data: Float32Array.from(ids.data as Int32Array) },
      probabilities: valuesOf(values['lens.probabilities']!),
      texts: Object.fromEntries([...found].map((id) => [id, this.subject.textOf(id)])),
    };
  }
}

function ascending(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** Throws `InspectError` for quantized weights: their products have no gradient. */
function expectGradients(weights: ReadonlyMap<string, Weight>): void {
  if (![...weights.values()].some(isQuantized)) return;
  throw new InspectError(
    'the sources of a token are found through gradients, and there are none through quantized weights: trace the model that it was made from, or leave out `attribute`',
  );
}

/**
 * What a trace takes at most, in bytes: the matrices twice, since the engine's results are copied, and what is needed at one
 * time to make them and the lens.
 */
function traceBytes(
  parts: readonly TracedPart[],
  { matrices, top }: Wanted,
  tokens: number,
  vocabSize: number,
): number {
  const square = 4 * tokens ** 2;
  const heads = parts.map((part) => part.heads.length);
  const kept = matrices ? 2 * square * heads.reduce((a, b) => a + b, 0) : 0;
  // Attention has its weights whole, however few heads are shown: logits, bias and weights at one time.
  const inside = parts.map(({ kind, numHeads, heads: shown }) =>
    kind === 'attention' ? 3 * square * numHeads : matrices ? 3 * square * shown.length : 0,
  );
  const logits = 4 * tokens * vocabSize * (top > 0 ? 3 : 2);
  return kept + Math.max(0, ...inside, logits);
}

function mixerOf(
  part: TracedPart,
  values: Readonly<Record<string, HostTensor>>,
  tokens: number,
): TracedMixerOf<Values> {
  const { layer: _, outputs, memory, letter, ...facts } = part;
  const of = (name: keyof typeof outputs): Values | undefined =>
    outputs[name] === undefined ? undefined : valuesOf(values[outputs[name]]!);
  const [weights, scores, write, keep, decays] = (
    ['weights', 'scores', 'write', 'keep', 'decays'] as const
  ).map(of);
  return {
    letter,
    name: LAYER_NAMES[letter as keyof typeof LAYER_NAMES],
    ...facts,
    ...(weights && { weights }),
    ...(memory && {
      selection: {
        ...memory,
        ...(scores && { scores }),
        seenUntil: { dims: [tokens], data: seenUntil(tokens, memory, scores?.data) },
      },
    }),
    ...(write && { write }),
    ...(keep && { keep }),
    ...(decays && { horizon: horizons(decays) }),
  };
}

function valuesOf({ dims, data }: HostTensor): Values {
  return { dims, data: data as Float32Array };
}

function likeliest(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
}
