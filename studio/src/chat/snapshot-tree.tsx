/** The tree of a conversation's snapshots: a bead for each, and a new thread for each branch. */
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks';
import { formatBytes } from '../../../src/cli/format.js';
import { bytesAfter, pathTo, rowsOf, type Tree, type TreeRow, type Turn, titleOf } from './conversation.js';
import type { Lane } from './lanes.js';

const ROW = 44;
const COLUMN = 16;
/** The most columns; further threads are drawn on top of each other. */
const MOST_COLUMNS = 6;

interface SnapshotTreeProps {
  tree: Tree;
  lane: Lane;
  /** `undefined` is the start. */
  onChoose: (turn: Turn | undefined) => void;
}

export function SnapshotTree({ tree, lane, onChoose }: SnapshotTreeProps) {
  const rows = rowsOf(tree);
  const way = new Set(pathTo(tree, lane.head).map(({ id }) => id));
  const columns = Math.min(MOST_COLUMNS, 1 + Math.max(...rows.map(({ column }) => column)));
  const gutter = columns * COLUMN + 8;
  const height = (rows.length + 1) * ROW;
  const whole = useRef<HTMLDivElement>(null);
  // The row of the current turn is shown when the turn changes, wherever the user has scrolled.
  const current = 1 + rows.findIndex(({ turn }) => turn.id === lane.head);
  useLayoutEffect(() => {
    const { scrollTop, clientHeight } = whole.current!;
    const least = (current + 1) * ROW - clientHeight;
    whole.current!.scrollTop = Math.max(least, Math.min(current * ROW, scrollTop));
  }, [current]);
  const shape = rows.map(({ turn, column }) => `${turn.id} ${column} ${turn.state !== undefined}`).join();
  const drawing = useMemo(
    () => (
      <svg width={gutter} height={height} viewBox={`0 0 ${gutter} ${height}`} aria-hidden="true">
        {rows.map((row, i) => (
          <path
            key={`thread ${row.turn.id}`}
            class={`thread ${way.has(row.turn.id) ? 'taken' : ''}`}
            d={thread(row, i)}
          />
        ))}
        <circle class={`bead ${lane.head === undefined ? 'head' : 'taken'}`} cx={x(0)} cy={y(-1)} r="4" />
        {rows.map(({ turn, column }, i) => (
          <circle
            key={turn.id}
            class={`bead ${turn.id === lane.head ? 'head' : way.has(turn.id) ? 'taken' : ''} ${turn.state ? '' : 'lost'}`}
            cx={x(column)}
            cy={y(i)}
            r={turn.id === lane.head ? 6 : 4.5}
          />
        ))}
      </svg>
    ),
    [shape, lane.head],
  );
  return (
    <div class="tree" ref={whole}>
      {drawing}
      <ol onKeyDown={moveBetweenButtons}>
        <li>
          <button
            type="button"
            aria-current={lane.head === undefined ? 'step' : undefined}
            onClick={() => onChoose(undefined)}
          >
            <span class="title faint">the beginning</span>
          </button>
        </li>
        {rows.map(({ turn }) => (
          <Row key={turn.id} turn={turn} isCurrent={turn.id === lane.head} onChoose={onChoose} />
        ))}
      </ol>
    </div>
  );
}

interface RowProps {
  turn: Turn;
  isCurrent: boolean;
  onChoose: SnapshotTreeProps['onChoose'];
}

/** Drawn again if its turn changes: an answer that arrives changes one of many. */
function Row({ turn, isCurrent, onChoose }: RowProps) {
  return useMemo(
    () => (
      <li>
        <button
          type="button"
          data-turn={turn.id}
          aria-current={isCurrent ? 'step' : undefined}
          disabled={turn.status === 'writing'}
          onClick={() => onChoose(turn)}
        >
          <span class={`title ${turn.state?.name ? 'named' : ''}`}>{titleOf(turn)}</span>
          <span class="sub">{held(turn)}</span>
        </button>
      </li>
    ),
    [turn, isCurrent],
  );
}

function held(turn: Turn): string {
  const { state, status } = turn;
  if (state) return `${state.tokens.toLocaleString('en')} tokens · ${formatBytes(bytesAfter(turn))}`;
  return {
    writing: turn.answer === '' && !turn.thoughts ? 'reading…' : 'writing…',
    stopped: 'stopped',
    failed: 'failed',
    done: 'no longer stored',
  }[status];
}

const x = (column: number): number => 10 + Math.min(column, MOST_COLUMNS - 1) * COLUMN;
/** The start has its own row above the others. */
const y = (row: number): number => (row + 1) * ROW + ROW / 2;

/** From a parent's bead down its thread, and over to the child's where it branches off. */
function thread({ column, from }: TreeRow, row: number): string {
  const [x0, y0] = [x(from?.column ?? 0), y(from?.row ?? -1)];
  const [x1, y1] = [x(column), y(row)];
  if (x0 === x1) return `M${x0} ${y0}V${y1}`;
  return `M${x0} ${y0}C${x0} ${y0 + ROW * 0.6} ${x1} ${y0 + ROW * 0.2} ${x1} ${y0 + ROW * 0.8}V${y1}`;
}

/** Arrow keys move between snapshots. */
function moveBetweenButtons(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  const buttons = [...event.currentTarget.querySelectorAll('button')];
  const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
  buttons[at + step]?.focus();
  event.preventDefault();
}
