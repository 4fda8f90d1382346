/** The tokens with the highest and lowest figures, by size. */
import { figure } from './heatmap.js';
import { trace } from './inside.js';
import { wordOf } from './words.js';

/** The `count` values of `figures` (one per token) with the largest absolute values. */
export function Ranking({ figures, count }: { figures: Float32Array; count: number }) {
  const { tokens } = trace.value!;
  const most = [...figures.keys()]
    .sort((a, b) => Math.abs(figures[b]!) - Math.abs(figures[a]!))
    .slice(0, count);
  const size = Math.abs(figures[most[0]!] ?? 0) || 1;
  return (
    <ol>
      {most.map((i) => (
        <li key={i}>
          <span class="word">{wordOf(tokens[i]!)}</span>
          <span class="faint">{i}</span>
          <span class="measure" aria-hidden="true">
            <i
              class={figures[i]! < 0 ? 'low' : 'high'}
              style={{ width: `${(100 * Math.abs(figures[i]!)) / size}%` }}
            />
          </span>
          <span class="number">{figure(figures[i]!)}</span>
        </li>
      ))}
    </ol>
  );
}
