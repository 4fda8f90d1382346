/** A turn of a conversation: message, answer, statistics and actions. */
import { useMemo } from 'preact/hooks';
import { formatBytes, formatRate } from '../../../src/cli/format.js';
import { lookInside } from '../inside/inside.js';
import { Copy } from '../parts/copy.js';
import { reporting } from '../parts/status.js';
import { goOn, isWriting, regenerate } from './answering.js';
import { fork } from './chat.js';
import { messagesOf, type Turn } from './conversation.js';
import { Elapsed } from './elapsed.js';
import { type Lane, modelOf, treeOf } from './lanes.js';
import { MarkdownView } from './markdown-view.js';

interface TurnViewProps {
  turn: Turn;
  lane: Lane;
  /** Whether it is the lane's current turn. */
  isLast: boolean;
}

/** A turn is drawn again if it changes itself: all others stay while an answer arrives. */
export function TurnView(props: TurnViewProps) {
  const { turn, lane, isLast } = props;
  return useMemo(() => <TurnParts {...props} />, [turn, lane, isLast]);
}

function TurnParts({ turn, lane, isLast }: TurnViewProps) {
  if (turn.kind !== 'turn') {
    const { tokens = 0, name } = turn.state ?? {};
    const what = turn.kind === 'fork' ? 'Forked here' : `Begins with ${name ?? 'a saved memory'}`;
    return (
      <p class="joint">
        {what}: {tokens.toLocaleString('en')} tokens held
      </p>
    );
  }
  const { status, thoughts } = turn;
  const answer = turn.answer.replace(/^ +/, '');
  const isWriting = status === 'writing';
  const isReading = isWriting && answer === '' && thoughts === undefined;
  return (
    <div class="turn" data-turn={turn.id} data-status={status}>
      {turn.system && (
        <details class="thoughts">
          <summary>System prompt</summary>
          <p>{turn.system}</p>
        </details>
      )}
      <p class="said">{turn.said}</p>
      {thoughts !== undefined && (
        <details class="thoughts">
          <summary>{isWriting && answer === '' ? 'Thinking…' : 'Thoughts'}</summary>
          <p>{thoughts.trim()}</p>
        </details>
      )}
      {isReading ? (
        <p class="reading-now">
          Reading {(turn.sent ?? 0).toLocaleString('en')} characters… <Elapsed since={turn.began} />
        </p>
      ) : (
        (answer !== '' || isWriting) && <Answer text={answer} isWriting={isWriting} lane={lane} />
      )}
      <Ending turn={turn} lane={lane} />
      <div class="after">
        <Cost turn={turn} />
        <Choices turn={turn} lane={lane} isLast={isLast} />
      </div>
    </div>
  );
}

/** Models with a chat template write Markdown; others continue a text, which is shown as it is. */
function Answer({ text, isWriting, lane }: { text: string; isWriting: boolean; lane: Lane }) {
  const caret = isWriting && <span class="caret" aria-hidden="true" />;
  if (modelOf(lane)?.chat) {
    return (
      <>
        <MarkdownView text={text} />
        {caret}
      </>
    );
  }
  return (
    <p class="answer">
      {text}
      {caret}
    </p>
  );
}

/** The reason why an answer ended, unless it is complete. */
function Ending({ turn: { status, answer, problem, outcome }, lane }: { turn: Turn; lane: Lane }) {
  if (status === 'failed') {
    const what = answer === '' ? 'This turn failed' : 'The answer broke off, without a snapshot';
    return (
      <p class="failed">
        {what}: {problem}
      </p>
    );
  }
  if (status === 'stopped') return <p class="failed">Stopped: this turn left no snapshot.</p>;
  if (status !== 'done' || !outcome) return null;
  if (isFull(outcome, lane)) return <p class="ending">Cut: the model's context is full.</p>;
  if (outcome.finishReason === 'length') {
    return <p class="ending">Cut at {outcome.writtenTokens.toLocaleString('en')} tokens.</p>;
  }
  return answer === '' ? <p class="ending">The model ended the text at once.</p> : null;
}

/** Whether an answer was cut because the context is full. */
function isFull(
  { finishReason, reusedTokens, readTokens, writtenTokens }: NonNullable<Turn['outcome']>,
  lane: Lane,
): boolean {
  const { context = Infinity } = modelOf(lane) ?? {};
  return finishReason === 'length' && reusedTokens + readTokens + writtenTokens >= context;
}

function Choices({ turn, lane, isLast }: TurnViewProps) {
  if (turn.status === 'writing') return null;
  const { status, outcome, answer } = turn;
  const wasCut =
    answer !== '' && (status !== 'done' || (outcome?.finishReason === 'length' && !isFull(outcome, lane)));
  const isFree = isLast && !isWriting(lane);
  return (
    <>
      {isFree && wasCut && (
        <button
          type="button"
          class="plain"
          title={
            modelOf(lane)?.chat
              ? "Says 'Continue' in a turn of its own: the chat template of this model has closed the answer"
              : 'Goes on with the text from where it ends'
          }
          onClick={reporting(() => goOn(lane))}
        >
          Continue
        </button>
      )}
      {isFree && (
        <button type="button" class="plain" onClick={reporting(() => regenerate(lane))}>
          {status === 'failed' && answer === '' ? 'Retry' : 'Regenerate'}
        </button>
      )}
      {isFree && turn.state && (
        <button type="button" class="plain" onClick={reporting(() => fork(lane))}>
          Fork
        </button>
      )}
      {answer !== '' && <Copy text={answer} what="the answer" />}
      {answer !== '' && (
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
    </>
  );
}

function Cost({ turn: { outcome, tokensPerSecond = 0 } }: { turn: Turn }) {
  if (!outcome) return null;
  const { reusedTokens, readTokens, writtenTokens, stateBytes } = outcome;
  return (
    <span class="cost">
      reused {reusedTokens.toLocaleString('en')} tokens · read {readTokens.toLocaleString('en')} · wrote{' '}
      {writtenTokens.toLocaleString('en')} {writtenTokens > 1 ? `at ${formatRate(tokensPerSecond)} ` : ''}·
      memory {formatBytes(stateBytes)}
    </span>
  );
}
