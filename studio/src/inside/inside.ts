/** The traced text, and the parts of the trace so far: matrices and attributions are requested when they are viewed. */
import { batch, computed, signal } from '@preact/signals';
import type { AttributionOf, EncodedValues, TracedLayerOf, TraceJson } from '../../../src/inspect/trace.js';
import type { TraceRequest } from '../../../src/server/studio-api.js';
import type { Message, ModelInfo } from '../api.js';
import { trace as askTrace, listModels } from '../hosts/hosts.js';
import { go } from '../parts/route.js';
import { report } from '../parts/status.js';
import { type Tensor, tensorOf } from './tensor.js';

export type Source =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'messages'; readonly messages: readonly Message[] };

interface Subject {
  readonly model: string;
  readonly source: Source;
}

export type Layer = TracedLayerOf<EncodedValues>;
type Attribution = AttributionOf<EncodedValues>;

/** Matrices of some heads of a mixer. */
export interface Heads {
  readonly heads: readonly number[];
  /** [heads, tokens, tokens] */
  readonly weights: Tensor;
}

/** Long enough for attention with a window to forget tokens. */
const OPENING =
  'Fellow citizens of the Senate and of the House of Representatives, the harvest has been good, and the Treasury is ' +
  'sound. The Secretary of the Navy reports that forty ships are ready for service, and that the yard at Norfolk will ' +
  'soon be finished. With the Republic of Mexico a treaty of commerce has been concluded, which will be laid before ' +
  'the Senate. I recommend that Congress consider the condition of the public roads, and of the post offices in the ' +
  'new Territories, where a letter may be three months on its way. The debt of the late war has been reduced by one ' +
  'half, and no new tax is needed. What the fathers of the Republic began with little, we may carry on with much, if ' +
  'the people of every State remain what they have been. The report of the Secretary of the Navy';
/** The most matrix elements per request. */
const MOST_ELEMENTS = 2e6;
const MOST_HEADS = 16;
const LENS_TOP = 5;

export const models = signal<readonly ModelInfo[]>([]);
export const model = signal<string | undefined>(undefined);
export const source = signal<Source>({ kind: 'text', text: OPENING });
export const trace = signal<TraceJson | undefined>(undefined);
/** The subject of the trace, if more of it can be requested; the form may have changed since. */
const subject = signal<Subject | undefined>(undefined);
let latest: Subject | undefined;
/** A description of the request in progress. */
export const working = signal<string | undefined>(undefined);

/** The current layer and mixer. */
export const shown = signal({ layer: 0, mixer: 0 });
/** The index of the first thumbnail, and the head that is shown large. */
export const firstHead = signal(0);
export const head = signal(0);
/** The current token. */
export const position = signal(0);
/** By layer, mixer and first head. */
const matrices = signal<ReadonlyMap<string, Heads>>(new Map());
const attributions = signal<ReadonlyMap<number, Attribution>>(new Map());
/** The token whose attribution is shown. */
const explained = signal<number | undefined>(undefined);

export const layer = computed(() => trace.value?.layers[shown.value.layer]);
export const mixer = computed(() => layer.value?.mixers[shown.value.mixer]);
/** The heads that can be shown: those with matrices in the trace, or all if more can be requested. */
export const available = computed(() => {
  const of = mixer.value;
  if (of?.weights) return of.heads;
  return Array.from({ length: of?.numHeads ?? 0 }, (_, i) => i);
});
const matrixKey = computed(() => [shown.value.layer, shown.value.mixer, firstHead.value].join());
export const heads = computed(() => matrices.value.get(matrixKey.value));
export const attribution = computed(() => attributions.value.get(explained.value ?? -1));

/** The number of heads per request. */
export const headsAtOnce = computed(() => {
  const tokens = trace.value?.tokens.length ?? 1;
  return Math.max(1, Math.min(MOST_HEADS, Math.floor(MOST_ELEMENTS / tokens ** 2)));
});

/** Row `position` of the current head: how much the token reads from each token before it. */
export const row = computed(() => {
  const found = heads.value;
  const at = found?.heads.indexOf(head.value) ?? -1;
  return found && at >= 0 ? found.weights.row(at, position.value) : undefined;
});

export async function openInside(): Promise<void> {
  models.value = await listModels();
  if (!models.value.some(({ id }) => id === model.value)) model.value = models.value[0]?.id;
}

/** Opens the inside page with this text, from elsewhere in the studio. */
export function lookInside(wanted: string, what: Source): void {
  batch(() => {
    model.value = wanted;
    source.value = what;
    go('inside');
  });
  look().catch(report);
}

/** Traces the text: everything but matrices and attributions. */
export async function look(): Promise<void> {
  if (model.value === undefined) return;
  const wanted = { model: model.value, source: source.value };
  latest = wanted;
  const result = await ask(wanted, 'reading the text', { matrices: false, lens: LENS_TOP });
  // Another trace may have been requested meanwhile.
  if (latest !== wanted) return;
  batch(() => {
    subject.value = wanted;
    reveal(result);
  });
}

/** Shows a trace. Its parts are not requested again. */
export function reveal(result: TraceJson): void {
  const before = trace.value?.model;
  const stays = before?.type === result.model.type && before.pattern === result.model.pattern;
  const mixing = result.layers.findIndex(({ mixers }) => mixers.some(({ selection }) => selection));
  batch(() => {
    trace.value = result;
    matrices.value = new Map();
    attributions.value = new Map(result.attributions.map((found) => [found.position, found]));
    explained.value = result.attributions.at(-1)?.position;
    position.value = result.tokens.length - 1;
    // For another text of the same model, the current layer stays selected.
    if (stays) show(shown.value.layer, shown.value.mixer, head.value);
    else show(mixing >= 0 ? mixing : result.layers.findIndex(({ mixers }) => mixers.length > 0));
  });
}

/** Selects a layer, and one of its heads if it can be shown. */
export function show(layer: number, mixer = 0, wanted?: number): void {
  batch(() => {
    shown.value = { layer: Math.max(0, layer), mixer };
    const place = wanted === undefined ? 0 : Math.max(0, available.value.indexOf(wanted));
    firstHead.value = place - (place % headsAtOnce.value);
    head.value = available.value[place] ?? 0;
  });
  fetchMatrices().catch(report);
}

/** Shows other heads of the layer, starting at this index of the available ones. */
export function showHeads(first: number): void {
  batch(() => {
    firstHead.value = first;
    head.value = available.value[first]!;
  });
  fetchMatrices().catch(report);
}

async function fetchMatrices(): Promise<void> {
  const key = matrixKey.value;
  const wanted = mixer.value;
  if (!wanted || matrices.value.has(key)) return;
  const { layer, mixer: place } = shown.value;
  const first = firstHead.value;
  const asked = available.value.slice(first, first + headsAtOnce.value);
  if (wanted.weights) {
    const weights = tensorOf(wanted.weights).slice(first, first + asked.length);
    matrices.value = new Map(matrices.value).set(key, { heads: asked, weights });
    return;
  }
  const of = subject.value;
  if (!of) return;
  const result = await ask(of, `computing layer ${layer}`, { layers: [layer], heads: asked, lens: 0 });
  const found = result.layers[layer]?.mixers[place];
  if (!found?.weights || subject.value !== of) return;
  matrices.value = new Map(matrices.value).set(key, {
    heads: found.heads,
    weights: tensorOf(found.weights),
  });
}

/** The available attributions, by position. */
export const known = computed(() => [...attributions.value.values()].sort((a, b) => a.position - b.position));

/** Whether the attribution of a token is available or can be requested. */
export function canExplain(at: number): boolean {
  return attributions.value.has(at) || (subject.value !== undefined && at > 0);
}

/** Requests the attribution of a token; the position after the last token is the model's next token. */
export async function explain(at: number): Promise<void> {
  const of = subject.value;
  if (!attributions.value.has(at)) {
    if (!of) return;
    const options = { layers: [], matrices: false, lens: 0, attribute: [at] };
    const [found] = (await ask(of, 'taking tokens away', options)).attributions;
    if (!found || subject.value !== of) return;
    attributions.value = new Map(attributions.value).set(at, found);
  }
  explained.value = at;
}

async function ask(
  { model, source }: Subject,
  what: string,
  options: TraceRequest['options'],
): Promise<TraceJson> {
  const request: TraceRequest = {
    model,
    ...(source.kind === 'text' ? { text: source.text } : { messages: source.messages }),
    options,
  };
  working.value = what;
  try {
    return await askTrace(request);
  } finally {
    if (working.value === what) working.value = undefined;
  }
}
