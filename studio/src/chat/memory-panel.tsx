/** The memory panel: statistics of the last turn, the tree of snapshots, and the saved states. */
import { formatBytes } from '../../../src/cli/format.js';
import type { StoredState } from '../api.js';
import { confirmed } from '../parts/confirmation.js';
import { besideTransformer, Growth, transformerBytes } from '../parts/growth.js';
import { reporting } from '../parts/status.js';
import { isWriting } from './answering.js';
import { beginWith, discard, fork, name } from './chat.js';
import { bytesAfter, pathTo, type Turn } from './conversation.js';
import { Elapsed } from './elapsed.js';
import { keptStates, type Lane, laneName, lanes, modelOf, models, rewind, treeOf, trees } from './lanes.js';
import { SnapshotTree } from './snapshot-tree.js';

export function MemoryPanel({ lane }: { lane: Lane }) {
  const tree = treeOf(lane);
  const head = tree.find(({ id }) => id === lane.head);
  return (
    <>
      <Held path={pathTo(tree, lane.head)} lane={lane} />
      <section aria-labelledby="snapshots">
        <h2 id="snapshots">Snapshots</h2>
        {tree.length === 0 ? (
          <p class="faint">The first turn leaves the first one.</p>
        ) : (
          <SnapshotTree key={lane.id} tree={tree} lane={lane} onChoose={(turn) => rewind(lane, turn?.id)} />
        )}
        {head?.state && <Actions key={head.id} lane={lane} turn={head} />}
      </section>
      <Kept />
      <NotServed />
    </>
  );
}

/** The size of the state, and the cached part of the last prompt. */
function Held({ path, lane }: { path: readonly Turn[]; lane: Lane }) {
  const of = lanes.value.length > 1 ? laneName(lane) : undefined;
  const now = path.at(-1);
  const last = path.findLast(({ state, outcome }) => state ?? outcome);
  const { reusedTokens = 0, readTokens = 0, writtenTokens = 0 } = last?.outcome ?? {};
  const tokens = last?.state?.tokens ?? reusedTokens + readTokens + writtenTokens;
  const parts = [
    { name: 'reused', count: reusedTokens },
    { name: 'read', count: readTokens },
    { name: 'written', count: writtenTokens },
  ];
  // The size of a state is unknown before its first answer.
  const isFirst = !last && now?.status === 'writing';
  const most = Math.max(1, reusedTokens + readTokens + writtenTokens);
  return (
    <section aria-labelledby="held">
      <h2 id="held">Memory{of !== undefined && <span class="faint"> of {of}</span>}</h2>
      {now?.status === 'writing' && (
        <p class="now">
          {now.answer === '' && !now.thoughts
            ? `reading ${(now.sent ?? 0).toLocaleString('en')} characters`
            : 'writing'}
          … <Elapsed since={now.began} />
        </p>
      )}
      <dl class="figures">
        <div>
          <dt>held</dt>
          <dd data-figure="bytes">{isFirst ? '…' : formatBytes(last ? bytesAfter(last) : 0)}</dd>
        </div>
        <div>
          <dt>tokens in it</dt>
          <dd data-figure="tokens">{isFirst ? '…' : tokens.toLocaleString('en')}</dd>
        </div>
      </dl>
      {last?.outcome && (
        <>
          <h3 class="faint">Tokens of the last answer</h3>
          <div class="shares" aria-hidden="true">
            {parts.map(({ name, count }) => (
              <span key={name} class={name} style={{ flexGrow: count / most }} />
            ))}
          </div>
          <ul class="legend">
            {parts.map(({ name, count }) => (
              <li key={name} class={name}>
                <strong data-figure={name}>{count.toLocaleString('en')}</strong> {name}
              </li>
            ))}
          </ul>
        </>
      )}
      <GrowthOver path={path} lane={lane} />
    </section>
  );
}

/** The size of the state after each turn. */
function GrowthOver({ path, lane }: { path: readonly Turn[]; lane: Lane }) {
  const sizes = path.flatMap((turn) =>
    turn.state ? [{ tokens: turn.state.tokens, bytes: bytesAfter(turn) }] : [],
  );
  const about = modelOf(lane);
  const [first, last] = [sizes[0], sizes.at(-1)];
  if (!first || !last || first === last || !about) return null;
  const perToken = transformerBytes(about.pattern, about.hidden_size);
  return (
    <figure>
      <Growth sizes={sizes} perToken={perToken} />
      <figcaption>
        {formatBytes(first.bytes)} after {first.tokens.toLocaleString('en')} tokens, {formatBytes(last.bytes)}{' '}
        after {last.tokens.toLocaleString('en')}. {besideTransformer(last, perToken)}
      </figcaption>
    </figure>
  );
}

/** Actions on the current snapshot. */
function Actions({ lane, turn }: { lane: Lane; turn: Turn }) {
  return (
    <form
      class="actions"
      onSubmit={(event) => {
        event.preventDefault();
        const given = String(new FormData(event.currentTarget).get('name')).trim();
        if (given !== '') reporting(() => name(lane.model, turn, given))();
      }}
    >
      <input
        name="name"
        aria-label="Name of this snapshot"
        placeholder="a name"
        defaultValue={turn.state?.name ?? ''}
        maxLength={80}
        required
      />
      <button type="submit">{turn.state?.name ? 'Rename' : 'Save memory'}</button>
      <button type="button" disabled={isWriting(lane)} onClick={reporting(() => fork(lane))}>
        Fork
      </button>
    </form>
  );
}

function Kept() {
  if (keptStates.value.length === 0) return null;
  const served = new Set(models.value?.map(({ id }) => id));
  return (
    <section aria-labelledby="kept">
      <h2 id="kept">Saved memories</h2>
      <ul class="kept">
        {keptStates.value.map((state) => (
          <KeptState key={state.id} state={state} served={served.has(state.model)} />
        ))}
      </ul>
    </section>
  );
}

/** Conversations with models that are not there now. */
function NotServed() {
  const here = new Set(models.value?.map(({ id }) => id));
  const gone = Object.entries(trees.value).flatMap(([model, tree]) =>
    tree.length > 0 && !here.has(model) ? [model] : [],
  );
  if (!models.value || gone.length === 0) return null;
  return (
    <p class="faint">
      Your conversation with {gone.join(' and ')} is kept: its snapshots are shown again when the model is
      there.
    </p>
  );
}

async function discardAfterAsking(state: StoredState): Promise<void> {
  const question = {
    title: `Delete ${state.name}?`,
    text: `The memory of ${state.tokens.toLocaleString('en')} tokens that ${state.model} has read and written (${formatBytes(state.bytes)}) will be deleted from the server.`,
    action: 'Delete',
  };
  if (await confirmed(question)) await discard(state);
}

function KeptState({ state, served }: { state: StoredState; served: boolean }) {
  return (
    <li>
      <span class="grow">
        <strong>{state.name}</strong>
        <span class="faint">
          {state.model} · {state.tokens.toLocaleString('en')} tokens · {formatBytes(state.bytes)}
        </span>
      </span>
      <button
        type="button"
        disabled={!served}
        onClick={() => beginWith(state)}
        aria-label={`Resume ${state.name}`}
      >
        Resume
      </button>
      <button
        type="button"
        class="plain"
        onClick={reporting(() => discardAfterAsking(state))}
        aria-label={`Delete ${state.name}`}
      >
        ✕
      </button>
    </li>
  );
}
