/** What the pages share: the library, the model that is open, and how it came. */
import { signal } from '@preact/signals';
import type * as Heddle from '../../src/browser/index.js';
import { encodeTrace } from '../../src/inspect/trace-json.js';
import { trace as inspected, model as named, openInside, traceBy } from '../../studio/src/inside/inside.js';

/** The library lies beside the page as it is published: one file for the page, one for its worker. */
const library = new URL('heddle/index.js', document.baseURI).href;
export const heddle = (await import(/* @vite-ignore */ library)) as typeof Heddle;

export interface Opened {
  /** What it is called here. */
  readonly name: string;
  readonly model: Heddle.TabModel;
  /** Milliseconds until it could write. */
  readonly took: number;
}

export interface Loading {
  readonly name: string;
  readonly progress: Heddle.LoadProgress | undefined;
}

export const opened = signal<Opened | undefined>(undefined);
/** The model that is being loaded, and how far that is. */
export const loading = signal<Loading | undefined>(undefined);
/** Threads that compute. */
export const threads = crossOriginIsolated ? navigator.hardwareConcurrency : 1;

/** Opens a model in the place of the one that is open. */
export async function open(name: string, source: Heddle.Source): Promise<void> {
  const before = opened.value;
  loading.value = { name, progress: undefined };
  const began = performance.now();
  try {
    const model = await heddle.loadModel(source, {
      onProgress: (progress) => {
        loading.value = { name, progress };
      },
    });
    opened.value = { name, model, took: performance.now() - began };
    await inspect(name, model);
    await before?.model.dispose();
  } finally {
    loading.value = undefined;
  }
}

/** The model that comes with the page. */
export async function openShipped(): Promise<void> {
  const files = (await (await fetch('model/files.json')).json()) as Record<string, string>;
  await open('sotu-hybrid', { url: './model/', files });
}

/** What one looks into is this model from now on. */
async function inspect(name: string, model: Heddle.TabModel): Promise<void> {
  const { pattern, parameters, maxPositionEmbeddings: context = 0 } = model.info;
  traceBy({
    models: async () => [{ id: name, heddle: { pattern, parameters, context, chat: false } }],
    trace: async ({ text = '', options }) =>
      encodeTrace(await model.trace(await model.encode(text), options)),
  });
  inspected.value = undefined;
  named.value = undefined;
  await openInside();
}
