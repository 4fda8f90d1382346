/** One conversation, from its beginning to where it stands. */
import { useLayoutEffect, useRef } from 'preact/hooks';
import { formatBytes, formatCount, formatRate } from '../../../src/cli/format.js';
import { lookInside } from '../inside/inside.js';
import { reporting } from '../parts/status.js';
import { again, fork, isWriting, type Lane, models, treeOf } from './chat.js';
import { messagesOf, pathTo, type Turn } from './conversation.js';

interface LaneViewProps {
  lane: Lane;
  /** The only one. */
  alone: boolean;
  active: boolean;
  onChoose: () => void;
  onClose: () => void;
}

export function LaneView({ lane, alone, active, onChoose, onClose }: LaneViewProps) {
  const path = pathTo(treeOf(lane), lane.head);
  const scroller = useRef<HTMLDivElement>(null);
  const last = path.at(-1);
  const follow = useRef(true);
  useLayoutEffect(() => {
    const element = scroller.current!;
    if (follow.current) element.scrollTop = element.scrollHeight;
  }, [last?.answer, last?.id]);
  return (
    <article class="lane" aria-label={`Conversation with ${lane.model}`}>
      {!alone && (
        <header>
          <button
            type="button"
            class="plain"
            aria-pressed={active}
            onClick={onChoose}
            title="Show its memory"
          >
            {lane.model}
          </button>
          <span class="grow" />
          <button
            type="button"
            class="plain"
            onClick={onClose}
            aria-label={`Close the lane of ${lane.model}`}
          >
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
        {path.length === 0 && <Welcome model={lane.model} />}
        {path.map((turn) => (
          <TurnView key={turn.id} turn={turn} lane={lane} isLast={turn === last} />
        ))}
      </div>
    </article>
  );
}

function Welcome({ model }: { model: string }) {
  const about = models.value?.find(({ id }) => id === model)?.heddle;
  return (
    <div class="welcome">
      <p>
        <strong>{model}</strong> has read nothing yet.
      </p>
      {about && (
        <p>
          {formatCount(about.parameters)} parameters, layers <span class="whole">{about.pattern}</span>.{' '}
          {about.chat ? 'It answers what you say.' : 'It goes on from what you write.'}
        </p>
      )}
      <p class="faint">
        Every turn leaves a snapshot of its memory. Go back to any of them, and say something else from there.
      </p>
    </div>
  );
}

function TurnView({ turn, lane, isLast }: { turn: Turn; lane: Lane; isLast: boolean }) {
  if (turn.kind !== 'turn') {
    const { tokens = 0, name } = turn.state ?? {};
    const what = turn.kind === 'fork' ? 'Forked here' : `Begins with ${name ?? 'a kept memory'}`;
    return (
      <p class="joint">
        {what}: {tokens.toLocaleString('en')} tokens held
      </p>
    );
  }
  return (
    <div class="turn" data-turn={turn.id} data-status={turn.status}>
      <p class="said">{turn.said}</p>
      <p class="answer">
        {turn.answer.replace(/^ +/, '')}
        {turn.status === 'writing' && <span class="caret" aria-hidden="true" />}
      </p>
      {turn.status === 'failed' && <p class="failed">This turn failed: {turn.problem}</p>}
      {turn.status === 'stopped' && <p class="failed">Stopped: this turn left no snapshot.</p>}
      <div class="after">
        <Cost turn={turn} />
        {isLast && !isWriting(lane) && (
          <>
            <button type="button" class="plain" onClick={reporting(() => again(lane))}>
              Again
            </button>
            {turn.state && (
              <button type="button" class="plain" onClick={reporting(() => fork(lane))}>
                Fork
              </button>
            )}
          </>
        )}
        {turn.answer !== '' && turn.status !== 'writing' && (
          <button
            type="button"
            class="plain"
            onClick={() =>
              lookInside(lane.model, { kind: 'messages', messages: messagesOf(treeOf(lane), turn.id) })
            }
          >
            Look inside
          </button>
        )}
      </div>
    </div>
  );
}

function Cost({ turn: { outcome, tokensPerSecond = 0 } }: { turn: Turn }) {
  if (!outcome) return null;
  const { reusedTokens, readTokens, writtenTokens, stateBytes } = outcome;
  return (
    <span class="cost">
      reused {reusedTokens.toLocaleString('en')} · read {readTokens.toLocaleString('en')} · wrote{' '}
      {writtenTokens.toLocaleString('en')} at {formatRate(tokensPerSecond)} · holds {formatBytes(stateBytes)}
    </span>
  );
}
