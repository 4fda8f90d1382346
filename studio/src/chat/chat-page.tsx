/** The chat: lanes side by side, what is said to all of them, and the memory of one beside it. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { report, reporting } from '../parts/status.js';
import { activeLane, addLane, chosenLane, clear, closeLane, lanes, models, open, trees } from './chat.js';
import { Composer } from './composer.js';
import { LaneView } from './lane-view.js';
import { MemoryPanel } from './memory-panel.js';

/** On a narrow screen the memory is shown in the place of the conversation. */
const memoryShown = signal(false);

export function ChatPage() {
  useEffect(() => {
    open().catch(report);
  }, []);
  const empty = Object.values(trees.value).every((tree) => tree.length === 0);
  return (
    <div class={`chat ${memoryShown.value ? 'memory-shown' : ''}`}>
      <div class="bar">
        <ModelPicker />
        <span class="grow" />
        <button type="button" disabled={empty} onClick={reporting(clear)}>
          Begin anew
        </button>
        <button
          type="button"
          class="narrow-only"
          aria-expanded={memoryShown.value}
          aria-controls="memory"
          onClick={() => {
            memoryShown.value = !memoryShown.value;
          }}
        >
          Memory
        </button>
      </div>
      <section class="talk" aria-label="Conversation">
        <div class="lanes" data-count={lanes.value.length}>
          {lanes.value.map((lane) => (
            <LaneView
              key={lane.id}
              lane={lane}
              alone={lanes.value.length === 1}
              active={lane === activeLane.value}
              onChoose={() => {
                chosenLane.value = lane.id;
              }}
              onClose={() => closeLane(lane)}
            />
          ))}
        </div>
        <Composer />
      </section>
      <aside id="memory" class="memory" aria-label="Memory">
        {activeLane.value && <MemoryPanel lane={activeLane.value} />}
      </aside>
    </div>
  );
}

/** Which models answer. */
function ModelPicker() {
  const found = models.value;
  if (!found) return <p class="faint">Looking for models…</p>;
  if (found.length === 0) return <p>This server has no models.</p>;
  return (
    <fieldset class="chips">
      <legend>Models</legend>
      {found.map(({ id }) => {
        const open = lanes.value.filter(({ model }) => model === id);
        return (
          <label key={id} class="chip">
            <input
              type="checkbox"
              checked={open.length > 0}
              // One of them answers, whatever happens.
              disabled={open.length > 0 && open.length === lanes.value.length}
              onChange={(event) => {
                if (event.currentTarget.checked) addLane(id);
                else open.forEach(closeLane);
              }}
            />
            {id}
          </label>
        );
      })}
    </fieldset>
  );
}
