/** One conversation, from its start to the current turn. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import { formatCount } from '../../../src/cli/format.js';
import { Layers } from '../parts/layers.js';
import { reporting } from '../parts/status.js';
import { busy, say } from './answering.js';
import { pathTo } from './conversation.js';
import { type Lane, laneName, modelOf, treeOf } from './lanes.js';
import { TurnView } from './turn-view.js';

interface LaneViewProps {
  lane: Lane;
  /** Whether it is the only lane. */
  alone: boolean;
  active: boolean;
  onChoose: () => void;
  onClose: () => void;
}

export function LaneView({ lane, alone, active, onChoose, onClose }: LaneViewProps) {
  const path = pathTo(treeOf(lane), lane.head);
  const scroller = useRef<HTMLDivElement>(null);
  const last = path.at(-1);
  const name = laneName(lane);
  const follow = useRef(true);
  const isEmpty = path.length === 0;
  const stayAtEnd = (): void => {
    const element = scroller.current!;
    if (follow.current && !isEmpty) element.scrollTop = element.scrollHeight;
  };
  // After every change of the text, or of the parts below it.
  useLayoutEffect(stayAtEnd);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(stayAtEnd);
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, [isEmpty]);
  const whole = useRef<HTMLElement>(null);
  // A new or selected lane may be off the screen.
  useLayoutEffect(() => {
    if (active) whole.current!.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }, [active]);
  return (
    <article class="lane" ref={whole} aria-label={`Conversation with ${name}`}>
      {!alone && (
        <header>
          <button
            type="button"
            class="plain"
            aria-pressed={active}
            onClick={onChoose}
            title="Show its memory"
          >
            {name}
          </button>
          <span class="grow" />
          <button type="button" class="plain" onClick={onClose} aria-label={`Close the lane of ${name}`}>
            ✕
          </button>
        </header>
      )}
      <div
        class="turns"
        ref={scroller}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="What was said"
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          follow.current = scrollHeight - scrollTop - clientHeight < 60;
        }}
      >
        {isEmpty && <Welcome lane={lane} />}
        {path.map((turn) => (
          <TurnView key={turn.id} turn={turn} lane={lane} isLast={turn === last} />
        ))}
      </div>
    </article>
  );
}

/** Something to begin with, for a model that answers and for one that continues a text. */
const OPENINGS = {
  answers: ['What is a heddle on a loom?', 'Tell me a story in three sentences.'],
  continues: ['The state of our Union is', 'Fellow citizens, the report of the Navy'],
};

function Welcome({ lane }: { lane: Lane }) {
  const about = modelOf(lane);
  return (
    <div class="welcome">
      <p>
        <strong>{lane.model}</strong> has read nothing yet.
      </p>
      {about && (
        <>
          <p>
            {formatCount(about.parameters)} parameters; layers: <Layers pattern={about.pattern} />.{' '}
            {about.chat
              ? 'It answers what you say.'
              : 'It was not made for chat: it continues what you write.'}
          </p>
          <p class="openings">
            {OPENINGS[about.chat ? 'answers' : 'continues'].map((opening) => (
              <button
                key={opening}
                type="button"
                disabled={busy.value}
                onClick={reporting(() => say(opening))}
              >
                {opening}
              </button>
            ))}
          </p>
        </>
      )}
      <dl>
        <div>
          <dt>Hold its memory</dt>
          <dd>
            All that it has read is one state, whose size is shown under Memory. Save it under a name, and go
            on from it tomorrow.
          </dd>
        </div>
        <div>
          <dt>Go back, and fork</dt>
          <dd>
            Every turn leaves a snapshot. Return to any of them and say something else; nothing is read again.
          </dd>
        </div>
        <div>
          <dt>Look inside</dt>
          <dd>
            See what each layer reads, keeps and forgets, for an answer or <a href="#/inside">for any text</a>
            .
          </dd>
        </div>
      </dl>
    </div>
  );
}
