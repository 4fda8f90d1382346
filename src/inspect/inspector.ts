/** Traces of one model. Its programs are compiled on first use, separately from those of the model. */
import { inBytes } from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  type HostTensor,
  hostZeros,
  int64,
  isQuantized,
  type Weight,
} from '../engine/index.js';
import { DataError, InspectError } from '../errors.js';
import { LAYER_NAMES, type Model, type SourceGiven } from '../models/index.js';
import { attributionProgram } from './attribution.js';
import { deletionTest, type Reader } from './deletion.js';
import { horizons } from './horizon.js';
import { type MixerPart, traceProgram } from './program.js';
import { seenUntil } from './selection.js';
import type {
  AttributionOf,
  LensOf,
  Token,
  Trace,
  TracedLayerOf,
  TracedMixerOf,
  TracedSource,
  Values,
} from './trace.js';

/** The options of a trace. */
export interface TraceOptions {
  /** The layers to trace, from 0; all by default. */
  layers?: readonly number[];
  /** The heads to trace; by default all, or a sample of 16 for layers in which every channel is a head. */
  heads?: readonly number[];
  /** Whether to compute the matrices [heads, tokens, tokens], by far the largest part; true by default. */
  matrices?: boolean;
  /** The number of tokens that the logit lens returns for each layer and position: 5 by default, 0 for no lens. */
  lens?: number;
  /**
   * Positions of tokens to attribute, from 1; the position after the last token is the model's next token. None by default: each needs a backward
   * pass, and a hundred forward passes for the deletion test.
   */
  attribute?: readonly number[];
  /** The source, for models that have one; the first token is then the one that begins the text. */
  source?: SourceGiven;
  /** The memory limit of the trace in bytes: 2 GB by default. */
  maxBytes?: number;
}

/** The model to trace. */
export interface Subject {
  readonly model: Model;
  readonly device: () => Promise<Device>;
  readonly weights: () => Promise<ReadonlyMap<string, Weight>>;
  readonly read: Reader;
  readonly textOf: (id: number) => string;
  /** The inputs of a source. Throws `DataError` for a source that the model cannot read. */
  readonly sourceOf: (given: SourceGiven) => ReadSourceInputs;
}

/** A source as inputs of a program. */
export interface ReadSourceInputs extends TracedSource {
  readonly feeds: Readonly<Record<string, HostTensor>>;
}

const MAX_BYTES = 2e9;
const LENS_TOP = 5;

/** A mixer with more heads than this has a head for every channel, of which a few are sampled. */
const MOST_HEADS = 64;
const FEW_HEADS = 16;

/** The validated selection of layers, heads and positions. */
interface Wanted {
  readonly layers: readonly number[];
  /** Empty for layers that are not traced. */
  readonly headsOf: (part: MixerPart) => readonly number[];
  readonly matrices: boolean;
  /** The layers of the lens, and how many tokens it shows of each. */
  readonly lens: readonly number[];
  readonly top: number;
  readonly attribute: readonly number[];
}

interface Compiled {
  readonly parts: readonly MixerPart[];
  readonly before: number;
  readonly executable: Executable;
}

/** Traces a model while it reads a text (see docs/inspecting.md). */
export class Inspector {
  private tracing: Compiled | undefined;
  private attributing: Executable | undefined;
  /** Serializes traces, since the memory limit is for one. */
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
    const wanted = this.wanted(ids, options);
    const source = this.sourceOf(options.source);
    const { parts, before, executable } = await this.compiled();
    expectRoom(model, parts, wanted, before + ids.length, options.maxBytes ?? MAX_BYTES);
    const values = await executable.run({ ...feedsOf(ids, parts, wanted), ...source?.feeds });
    const logProbabilities = values.logProbabilities!.data as Float32Array;
    const attributions: AttributionOf<Values>[] = [];
    for (const place of wanted.attribute) attributions.push(await this.attribution(ids, place, source));
    return {
      model: { type: model.modelType, pattern: model.pattern },
      tokens: ids.map((id, i) => ({
        ...this.token(id),
        ...(i > 0 && { logProbability: logProbabilities[i - 1]! }),
      })),
      ...(source && { source: { kind: source.kind, places: source.places } }),
      layers: model.layers.map(({ letters }, index): TracedLayerOf<Values> => {
        const own = wanted.layers.includes(index) ? parts.filter((part) => part.layer === index) : [];
        return {
          index,
          letters,
          mixers: own.map((part) => mixerOf(part, wanted, values, before, ids.length)),
        };
      }),
      ...(wanted.top > 0 && { lens: this.lensOf(wanted.lens, values) }),
      attributions,
    };
  }

  /** Throws `InspectError` if the model needs a source and none is given, or the other way round. */
  private sourceOf(given: SourceGiven | undefined): ReadSourceInputs | undefined {
    const { source } = this.subject.model;
    if (!source && given === undefined) return undefined;
    if (source && given !== undefined) return this.subject.sourceOf(given);
    throw new InspectError(
      source
        ? `this model ${source.modality.about} before it writes: say what, as \`source\``
        : 'this model reads no source: it continues a text',
    );
  }

  private token(id: number): Token {
    return { id, text: this.subject.textOf(id) };
  }

  /** Throws `InspectError` for layers, heads and positions that do not exist. */
  private wanted(ids: readonly number[], options: TraceOptions): Wanted {
    const { layers: all, vocabSize } = this.subject.model;
    const { layers, heads, matrices = true, lens = LENS_TOP, attribute = [] } = options;
    const expect = (values: readonly number[], first: number, last: number, what: string): void => {
      const wrong = values.find((value) => !(Number.isInteger(value) && value >= first && value <= last));
      if (wrong === undefined) return;
      const range = last === Number.POSITIVE_INFINITY ? `${first} or more` : `${first} to ${last}`;
      throw new InspectError(`there is no ${what} ${wrong}: expected ${range}`);
    };
    const last = all.length - 1;
    expect(layers ?? [], 0, last, 'layer');
    expect(heads ?? [], 0, Number.POSITIVE_INFINITY, 'head');
    expect([lens], 0, Number.POSITIVE_INFINITY, 'number of tokens of the lens:');
    expect(attribute, 1, ids.length, 'place of a token to explain at');
    return {
      layers: layers ?? all.map((_, i) => i),
      headsOf: ({ layer, numHeads }) => {
        if (layers && !layers.includes(layer)) return [];
        return heads ? ascending(heads).filter((head) => head < numHeads) : shownHeads(numHeads);
      },
      matrices,
      lens: lens === 0 ? [] : layers ? ascending([...layers, last]) : all.map((_, i) => i),
      top: Math.min(lens, vocabSize),
      attribute,
    };
  }

  private async compiled(): Promise<Compiled> {
    const { model, device, weights } = this.subject;
    if (!this.tracing) {
      const { parts, before, program } = traceProgram(model, await weights());
      this.tracing = { parts, before, executable: await (await device()).compile(program) };
    }
    return this.tracing;
  }

  /** Throws `InspectError` for quantized weights: their products have no gradient. */
  private async compiledAttribution(): Promise<Executable> {
    if (this.attributing) return this.attributing;
    const { model, device } = this.subject;
    const weights = await this.subject.weights();
    if ([...weights.values()].some(isQuantized)) {
      throw new InspectError(
        'the sources of a token are found through gradients, and there are none through quantized weights: trace the model before quantization, or leave out `attribute`',
      );
    }
    this.attributing = await (await device()).compile(attributionProgram(model, weights));
    return this.attributing;
  }

  private async attribution(
    ids: readonly number[],
    place: number,
    source: ReadSourceInputs | undefined,
  ): Promise<AttributionOf<Values>> {
    const { read } = this.subject;
    const executable = await this.compiledAttribution();
    const before = ids.slice(0, place);
    const target = ids[place] ?? likeliest(await read([before]));
    const { logProbability, scores, sourceScores } = await executable.run({
      ids: int64(before, [1, place]),
      target: int64([target], [1]),
      ...source?.feeds,
    });
    const found = scores!.data as Float32Array;
    const deletion = source ? undefined : await deletionTest(before, target, found, read);
    return {
      position: place,
      token: this.token(target),
      logProbability: logProbability!.data[0] as number,
      scores: { dims: [place], data: found },
      ...(source && { sourceScores: firstOf(sourceScores!, source.places.length) }),
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

/** The default heads of a mixer. */
function shownHeads(count: number): number[] {
  if (count <= MOST_HEADS) return Array.from({ length: count }, (_, i) => i);
  return Array.from({ length: FEW_HEADS }, (_, i) => Math.floor((i * count) / FEW_HEADS));
}

/**
 * Throws `InspectError` if a trace would take more than `maxBytes`: its matrices twice, since the engine's results are copied, and the peak memory of
 * computing them, the lens and the logits.
 */
function expectRoom(
  { vocabSize, hiddenSize, layers }: Model,
  parts: readonly MixerPart[],
  { headsOf, matrices, top }: Wanted,
  tokens: number,
  maxBytes: number,
): void {
  const square = 4 * tokens ** 2;
  const shown = parts.map((part) => (matrices ? headsOf(part).length : 0));
  const kept = 2 * square * shown.reduce((a, b) => a + b, 0);
  // Attention computes all heads, however few are traced: logits, logits with the bias, and weights.
  const inside = parts.map(
    ({ kind, numHeads }, i) => 3 * square * (kind === 'attention' ? numHeads : shown[i]!),
  );
  const logits = 4 * tokens * vocabSize * (top > 0 ? 3 : 2);
  const streams = 4 * tokens * hiddenSize * layers.length;
  const bytes = kept + streams + Math.max(logits, ...inside);
  if (bytes <= maxBytes) return;
  throw new InspectError(
    `a trace of ${tokens} tokens would take ${inBytes(bytes)}, more than the ${inBytes(maxBytes)} that are allowed: give fewer tokens, layers or heads, do without matrices, or raise maxBytes`,
  );
}

function feedsOf(
  ids: readonly number[],
  parts: readonly MixerPart[],
  { headsOf, matrices, lens, top }: Wanted,
): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {
    ids: int64(ids, [1, ids.length]),
    // The last token has no successor, so its row is not used.
    next: int64([...ids.slice(1), 0], [ids.length]),
    lens: int64(lens, [lens.length]),
    top: hostZeros('float32', [top]),
  };
  for (const part of parts) {
    const heads = headsOf(part);
    const shown = matrices ? heads : [];
    feeds[`${part.name}.matrices`] = int64(shown, [shown.length]);
    feeds[`${part.name}.gates`] = int64(heads, [heads.length]);
  }
  return feeds;
}

function mixerOf(
  part: MixerPart,
  wanted: Wanted,
  values: Readonly<Record<string, HostTensor>>,
  before: number,
  tokens: number,
): TracedMixerOf<Values> {
  const { name, letter, kind, numHeads, memory } = part;
  const of = (what: string): Values | undefined =>
    values[`${name}.${what}`] && valuesOf(values[`${name}.${what}`]!);
  const [scores, write, keep, erase, decays] = ['scores', 'write', 'keep', 'erase', 'decays'].map(of);
  return {
    letter,
    name: LAYER_NAMES[letter as keyof typeof LAYER_NAMES],
    kind,
    numHeads,
    heads: wanted.headsOf(part),
    ...(wanted.matrices && { weights: of('weights')! }),
    ...(memory && {
      selection: {
        ...memory,
        ...(scores && { scores: { dims: [tokens], data: scores.data.slice(before) } }),
        seenUntil: {
          dims: [tokens],
          data: seenUntil(before + tokens, memory, scores?.data)
            .slice(before)
            .map((place) => place - before),
        },
      },
    }),
    ...(write && { write }),
    ...(keep && { keep }),
    ...(erase && { erase }),
    ...(decays && { horizon: horizons(decays) }),
  };
}

function valuesOf({ dims, data }: HostTensor): Values {
  return { dims, data: data as Float32Array };
}

/** A row without padding. */
function firstOf({ data }: HostTensor, count: number): Values {
  return { dims: [count], data: (data as Float32Array).slice(0, count) };
}

function likeliest(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
}
