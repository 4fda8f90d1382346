/** Attribution of a token, and its deletion test: the loss without the attributed tokens, and without as many random ones. */
import { Plot } from '../parts/plot.js';
import { reporting } from '../parts/status.js';
import { figure } from './heatmap.js';
import { attribution, explain, known } from './inside.js';
import { Ranking } from './ranking.js';
import { tensorOf } from './tensor.js';
import { wordOf } from './words.js';

const SHOWN = 8;

export function AttributionView() {
  const found = attribution.value;
  if (!found) return null;
  const scores = tensorOf(found.scores).data;
  return (
    <section aria-labelledby="attribution">
      <h2 id="attribution">
        What <b>{wordOf(found.token)}</b> draws on{' '}
        <span class="faint">
          gradient times input, in nats of its log probability ({found.logProbability.toFixed(2)})
        </span>
      </h2>
      {known.value.length > 1 && (
        <fieldset class="known">
          <legend class="hidden">Tokens whose sources are known</legend>
          {known.value.map(({ position, token }) => (
            <button
              key={position}
              type="button"
              class="token"
              aria-pressed={position === found.position}
              onClick={reporting(() => explain(position))}
            >
              {wordOf(token)}
            </button>
          ))}
        </fieldset>
      )}
      <div class="mixer">
        <section class="reads" aria-label="The tokens that count most">
          <Ranking figures={scores} count={SHOWN} />
        </section>
        <div class="beside">
          <Deletion />
        </div>
      </div>
    </section>
  );
}

function Deletion() {
  const deletion = attribution.value?.deletion;
  if (!deletion) return <p class="faint">There are too few tokens before it to take any away.</p>;
  const lost = tensorOf(deletion.attributed).data;
  const random = tensorOf(deletion.random);
  const means = deletion.counts.map((_, i) => {
    const draws = random.row(i);
    return draws.reduce((sum, value) => sum + value, 0) / draws.length;
  });
  const last = deletion.counts.length - 1;
  return (
    <>
      <Plot
        title="Deletion test"
        legend
        unit="nats lost"
        xName="tokens taken away"
        lines={[
          {
            name: 'those it draws on',
            colour: 'high',
            x: deletion.counts,
            y: [...lost],
            style: 'points',
          },
          { name: 'as many at random', colour: 'faint', x: deletion.counts, y: means, style: 'points' },
        ]}
      />
      <p class="faint">
        Without the {deletion.counts[last]} tokens of the highest scores it loses {figure(lost[last]!)} nats;
        without as many at random, {figure(means[last]!)} on average.
      </p>
    </>
  );
}
