/** The logit lens: the predictions from the residual stream after each layer. */
import { position, trace } from './inside.js';
import { css, inkOn, scaleFor } from './scale.js';
import { tensorOf } from './tensor.js';
import { percent, wordOf } from './words.js';

/** Strength of the colours below the words. */
const STRENGTH = 0.7;
/** Tokens shown on each side of the current one. */
const AROUND = 7;

export function LensView() {
  const traced = trace.value!;
  const { lens, tokens } = traced;
  if (!lens) return null;
  const ids = tensorOf(lens.ids);
  const probabilities = tensorOf(lens.probabilities);
  const scale = scaleFor([0, 1], STRENGTH);
  const wide = Math.min(tokens.length, 2 * AROUND + 1);
  const start = Math.max(0, Math.min(tokens.length - wide, position.value - AROUND));
  const columns = Array.from({ length: wide }, (_, i) => start + i);
  const word = (id: number): string => wordOf({ text: lens.texts[id] ?? '' });
  return (
    <section aria-labelledby="lens">
      <h2 id="lens">
        Logit lens <span class="faint">what would come next, had the model stopped after a layer</span>
      </h2>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
      <section class="scroll" tabIndex={0} aria-label="What would come next, by layer and token">
        <table class="lens">
          <thead>
            <tr>
              <th scope="col">after</th>
              {columns.map((i) => (
                <th key={i} scope="col" class={i === position.value ? 'here' : ''}>
                  <button
                    type="button"
                    class="plain"
                    onClick={() => {
                      position.value = i;
                    }}
                  >
                    {wordOf(tokens[i]!)}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {lens.layers.map((layer, row) => (
              <tr key={layer}>
                <th scope="row">layer {layer}</th>
                {columns.map((i) => {
                  const shares = probabilities.row(row, i);
                  const rgb = scale.rgb(shares[0]!);
                  const all = [...ids.row(row, i)].map((id, k) => `${word(id)} ${percent(shares[k]!)}`);
                  return (
                    <td key={i} title={all.join('\n')} style={{ background: css(rgb), color: inkOn(rgb) }}>
                      {word(ids.row(row, i)[0]!)}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <Likeliest />
    </section>
  );
}

/** The final predictions after the current token. */
function Likeliest() {
  const { lens, tokens } = trace.value!;
  const last = lens!.layers.length - 1;
  const ids = tensorOf(lens!.ids).row(last, position.value);
  const shares = tensorOf(lens!.probabilities).row(last, position.value);
  return (
    <p class="faint">
      After <b>{wordOf(tokens[position.value]!)}</b> the model expects{' '}
      {[...ids]
        .map((id, k) => `${wordOf({ text: lens!.texts[id] ?? '' })} (${percent(shares[k]!)})`)
        .join(', ')}
      .
    </p>
  );
}
