/** The chat is stored in the browser whenever it changes, and shared with the other tabs that show it. */
import { batch, effect } from '@preact/signals';
import { abandon, arriving, busy, stop } from './answering.js';
import { merged, type Tree } from './conversation.js';
import { begun, lanes, rewind, sampling, trees } from './lanes.js';
import { followStored, type StoredChat, storeChat } from './stored-chat.js';

/** The interval at which the tree is stored while an answer arrives, in milliseconds, since it changes with every frame. */
const STORING = 500;

const present = (): StoredChat => ({
  ...{ trees: trees.value, lanes: lanes.value },
  ...{ sampling: sampling.value, begun: begun.value },
});

/** What the browser has of this tab. Another tab may have changed more of it: only changes are stored. */
let stored = present();
let storedAt = 0;

function store(chat: StoredChat): void {
  storedAt = performance.now();
  stored = chat;
  storeChat(chat);
}

const isStored = ({ trees, lanes, sampling }: StoredChat): boolean =>
  trees === stored.trees && lanes === stored.lanes && sampling === stored.sampling;

effect(() => {
  // Read even if it is not stored now, so that the effect runs again when any of it changes.
  const chat = present();
  const wait = busy.value && performance.now() - storedAt < STORING;
  if (!isStored(chat) && !wait) store(chat);
});

// The latest changes are stored when the page is closed.
addEventListener('pagehide', () => {
  abandon();
  if (!isStored(present())) store(present());
});

followStored((theirs) => {
  if (theirs.begun < begun.value) return store(present());
  if (theirs.begun > begun.value) return beginAnew(theirs);
  const all = { ...trees.value, ...theirs.trees };
  const both = mapTrees(all, (_, model) =>
    merged(trees.value[model] ?? [], theirs.trees[model] ?? [], arriving.value),
  );
  const hasMore = Object.entries(both).some(([model, tree]) => {
    const known = new Set(theirs.trees[model]);
    return tree.some((turn) => !known.has(turn));
  });
  batch(() => {
    // What the other tab has stored need not be stored again.
    if (!hasMore) stored = { ...stored, trees: both };
    trees.value = both;
  });
});

/** Another tab has begun a new chat, which is that of all tabs. */
function beginAnew(theirs: StoredChat): void {
  stop();
  batch(() => {
    stored = { ...stored, trees: theirs.trees };
    begun.value = theirs.begun;
    trees.value = theirs.trees;
    for (const lane of lanes.value) rewind(lane, undefined);
  });
}

function mapTrees(all: StoredChat['trees'], changed: (tree: Tree, model: string) => Tree) {
  return Object.fromEntries(Object.entries(all).map(([model, tree]) => [model, changed(tree, model)]));
}
