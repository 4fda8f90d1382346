/** The model that is open in the demo. */
import { effect, signal } from '@preact/signals';
import type * as Heddle from '../../src/browser/index.js';
import { sampling, trees } from '../../studio/src/chat/lanes.js';
import { storeChat } from '../../studio/src/chat/stored-chat.js';
import { runOn } from '../../studio/src/hosts/hosts.js';
import { infoOf, library, load, tab, unload } from '../../studio/src/hosts/tab.js';
import { trace as inspected, model as named, openInside } from '../../studio/src/inside/inside.js';

export const heddle = await library();
runOn(tab);
// The settings of a chat are those of the next visit, too; what was said is not kept.
effect(() => storeChat({ trees: {}, lanes: [], sampling: sampling.value, begun: 0 }));

export interface Opened {
  /** What it is called here. */
  readonly name: string;
  readonly model: Heddle.TabModel;
  /** Whether it has a chat template, so that one talks with it. */
  readonly chats: boolean;
  /** Milliseconds until it could write. */
  readonly took: number;
}

export const opened = signal<Opened | undefined>(undefined);

/** Opens a model in the place of the one that is open. */
export async function open(name: string, source: Heddle.Source): Promise<void> {
  const before = opened.value;
  const began = performance.now();
  const model = await load(name, source);
  if (before && before.name !== name) await unload(before.name);
  const { chat: chats } = infoOf(name)!.heddle;
  // What was said to another model is no beginning of a conversation with this one, and nobody comes back to what has no name.
  trees.value = {};
  if (chats) {
    for (const state of await tab.listStates()) if (!state.name) await tab.deleteState(state.id);
  }
  opened.value = { name, model, chats, took: performance.now() - began };
  inspected.value = undefined;
  named.value = undefined;
  await openInside();
}

/** The model that comes with the page. */
export async function openShipped(): Promise<void> {
  const files = (await (await fetch('model/files.json')).json()) as Record<string, string>;
  await open('sotu-hybrid', { url: './model/', files });
}
