/** The chat page: lanes side by side, the message field, and the memory panel of one lane. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { formatBytes } from '../../../src/cli/format.js';
import { confirmed } from '../parts/confirmation.js';
import { connected } from '../parts/connection.js';
import { report, reporting } from '../parts/status.js';
import { clear, closeLane, open } from './chat.js';
import { Composer } from './composer.js';
import { bytesAfter, pathTo } from './conversation.js';
import { LaneView } from './lane-view.js';
import { activeLane, chosenLane, keptStates, type Lane, laneName, lanes, treeOf, trees } from './lanes.js';
import { MemoryPanel } from './memory-panel.js';
import { ModelPicker } from './model-picker.js';

/** Whether a narrow screen shows the memory panel instead of the conversation. */
const memoryShown = signal(false);

export function ChatPage() {
  useEffect(() => {
    if (connected.value) open().catch(report);
  }, [connected.value]);
  const empty = Object.values(trees.value).every((tree) => tree.length === 0);
  return (
    <div class={`chat ${memoryShown.value ? 'memory-shown' : ''}`}>
      <div class="bar">
        <ModelPicker
          onClose={(closed) =>
            reporting(() => closeAfterAsking(lanes.value.filter(({ model }) => model === closed)))()
          }
        />
        <span class="grow" />
        <button type="button" disabled={empty} onClick={reporting(newChat)}>
          New chat
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
              onClose={reporting(() => closeAfterAsking([lane]))}
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

async function newChat(): Promise<void> {
  const turns = Object.values(trees.value).flat();
  const said = turns.filter(({ kind }) => kind === 'turn').length;
  const unnamed = turns.filter(({ state }) => state && !state.name);
  const bytes = unnamed.reduce((sum, turn) => sum + bytesAfter(turn), 0);
  const lost = [
    counted(said, 'turn'),
    ...(unnamed.length > 0
      ? [`${counted(unnamed.length, 'snapshot')} of memory (${formatBytes(bytes)})`]
      : []),
  ];
  const saved = keptStates.value.length;
  const text = `${lost.join(' and ')} will be deleted, in all branches. ${
    saved > 0
      ? `The ${counted(saved, 'saved memory', 'saved memories')} will stay.`
      : 'A memory that you save under a name would stay.'
  }`;
  if (await confirmed({ title: 'Start a new chat?', text, action: 'New chat' })) await clear();
}

/** Closes lanes, after a confirmation if any has a conversation. */
async function closeAfterAsking(closing: readonly Lane[]): Promise<void> {
  const names = closing.map(laneName).join(', ');
  const turns = closing.reduce(
    (sum, lane) => sum + pathTo(treeOf(lane), lane.head).filter(({ kind }) => kind === 'turn').length,
    0,
  );
  const question = {
    title: `Close ${names}?`,
    text: `Its conversation of ${counted(turns, 'turn')} leaves the screen, and an answer that is being written is stopped. Its snapshots stay in the tree of the model.`,
    action: 'Close',
  };
  if (turns === 0 || (await confirmed(question))) closing.forEach(closeLane);
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`;
}
