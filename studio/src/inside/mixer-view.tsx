/** One mixer: its heads' matrices, its write, keep and erase gates, and its horizon. */
import { Plot } from '../parts/plot.js';
import { figure, Heatmap, Thumbnail } from './heatmap.js';
import {
  available,
  firstHead,
  head,
  heads,
  headsAtOnce,
  layer,
  mixer,
  position,
  row,
  showHeads,
  trace,
} from './inside.js';
import { Ranking } from './ranking.js';
import { tensorOf } from './tensor.js';
import { wordOf } from './words.js';

export function MixerView() {
  const { name, kind, selection, write, keep, erase, horizon } = mixer.value!;
  const { tokens } = trace.value!;
  const found = heads.value;
  const at = found?.heads.indexOf(head.value) ?? -1;
  const title = `${kind} of layer ${layer.value!.index}, head ${head.value}`;
  return (
    <div class="mixer">
      <div class="picture">
        <h3>
          {name} <span class="faint">{kind === 'attention' ? 'weights' : kind}</span>
        </h3>
        <HeadPicker />
        {found && at >= 0 ? (
          <Heatmap
            matrix={found.weights.row(at)}
            tokens={tokens}
            name={title}
            position={position.value}
            onPosition={(place) => {
              position.value = place;
            }}
          />
        ) : (
          <div class="heatmap waiting" role="status">
            computing…
          </div>
        )}
      </div>
      <div class="beside">
        <Reads />
        {selection?.scores && <Selection scores={[...tensorOf(selection.scores).data]} />}
        {write && <OverTime title="Write" unit="how much of a token enters" values={tensorOf(write)} />}
        {keep && <OverTime title="Keep" unit="share of the memory that stays" values={tensorOf(keep)} />}
        {erase && (
          <OverTime
            title="Erase"
            unit="share of the memory that a token takes out"
            values={tensorOf(erase)}
          />
        )}
        {horizon && <Horizon values={[...tensorOf(horizon).data]} />}
      </div>
    </div>
  );
}

function HeadPicker() {
  const all = available.value;
  const size = trace.value!.tokens.length;
  const at = headsAtOnce.value;
  const found = heads.value;
  const pages = Math.ceil(all.length / at);
  return (
    <div class="heads">
      <fieldset>
        <legend>Head</legend>
        {found?.heads.map((index, i) => (
          <label key={index} class="head">
            <input
              type="radio"
              name="head"
              checked={index === head.value}
              onChange={() => {
                head.value = index;
              }}
            />
            <Thumbnail matrix={found.weights.row(i)} size={size} />
            {index}
          </label>
        ))}
      </fieldset>
      {pages > 1 && (
        <label>
          heads{' '}
          <select
            value={firstHead.value}
            onChange={({ currentTarget }) => showHeads(Number(currentTarget.value))}
          >
            {Array.from({ length: pages }, (_, i) => (
              <option key={i} value={i * at}>
                {all[i * at]} to {all[Math.min(all.length, (i + 1) * at) - 1]}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  );
}

/** The tokens from which the current token reads most. */
function Reads() {
  const { tokens } = trace.value!;
  const read = row.value;
  if (!read) return null;
  return (
    <section class="reads" aria-labelledby="reads">
      <h4 id="reads">
        <b>{wordOf(tokens[position.value]!)}</b> reads most from
      </h4>
      <Ranking figures={read.subarray(0, position.value + 1)} count={6} />
    </section>
  );
}

/** The scores by which a layer selects the older tokens that it keeps. */
function Selection({ scores }: { scores: readonly number[] }) {
  const { window, selected } = mixer.value!.selection!;
  return (
    <>
      <Plot
        title="Selection score"
        unit="of each token, when it leaves the window"
        lines={[{ name: 'score', colour: 'low', x: scores.map((_, i) => i), y: scores, style: 'points' }]}
        xName="token"
        group="tokens"
      />
      <p class="faint">
        The layer sees the last {window} tokens, and of the older ones the {selected} with the highest scores:
        its memory never grows.
      </p>
    </>
  );
}

/** A gate of the current head over tokens; the other shown heads are drawn as shadows. */
function OverTime({
  title,
  unit,
  values,
}: {
  title: string;
  unit: string;
  values: ReturnType<typeof tensorOf>;
}) {
  const x = trace.value!.tokens.map((_, i) => i);
  const shown = mixer.value!.heads;
  const lines = shown.map((index, i) => ({
    name: `head ${index}`,
    colour: index === head.value ? 'high' : 'faint',
    x,
    y: [...values.row(i)],
    ...(index !== head.value && { style: 'shadow' as const }),
  }));
  // The last line is drawn on top.
  const sorted = [...lines.filter(({ style }) => style), ...lines.filter(({ style }) => !style)];
  return <Plot title={title} unit={unit} lines={sorted} xName="token" group="tokens" />;
}

/** A histogram of the heads' horizons in tokens, with bins of a factor of two. */
function Horizon({ values }: { values: readonly number[] }) {
  const bins = values.map((value) => Math.max(0, Math.floor(Math.log2(Math.max(value, 1)))));
  const last = Math.min(20, Math.max(...bins));
  const counts = Array.from({ length: last + 1 }, (_, bin) =>
    bins.filter((each) => Math.min(each, last) === bin),
  );
  const most = Math.max(...counts.map(({ length }) => length));
  const own = values[head.value];
  return (
    <figure class="horizon">
      <figcaption>
        Memory horizon{' '}
        <span class="faint">
          tokens, by heads{own === undefined ? '' : `; head ${head.value}: ${figure(own)} tokens`}
        </span>
      </figcaption>
      <ol>
        {counts.map(({ length }, bin) => (
          <li key={2 ** bin} class={own !== undefined && bins[head.value] === bin ? 'own' : ''}>
            <span class="count">{length > 0 ? length : ''}</span>
            <i style={{ height: `${(100 * length) / most}%` }} />
            <span class="hidden">
              {length} heads from {bin === 0 ? 0 : 2 ** bin} to {2 ** (bin + 1)} tokens
            </span>
            <span class="bin" aria-hidden="true">
              {bin === 0 ? '<2' : (2 ** bin).toLocaleString('en')}
            </span>
          </li>
        ))}
      </ol>
    </figure>
  );
}
