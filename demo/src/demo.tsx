/** What surrounds the three pages. */
import { signal } from '@preact/signals';
import { formatBytes, formatCount } from '../../src/cli/format.js';
import mark from '../../studio/src/heddle.svg';
import { InsidePage } from '../../studio/src/inside/inside-page.js';
import { Layers } from '../../studio/src/parts/layers.js';
import { problem } from '../../studio/src/parts/status.js';
import { ThemeButton } from '../../studio/src/parts/theme-button.js';
import { loading, opened, threads } from './tab.js';
import { TrainPage } from './train-page.js';
import { WritePage } from './write-page.js';

const PAGES = {
  write: { name: 'Write', Page: WritePage },
  train: { name: 'Train', Page: TrainPage },
  inside: { name: 'Look inside', Page: InsidePage },
} as const;

type PageName = keyof typeof PAGES;

const named = (): PageName =>
  (Object.keys(PAGES) as PageName[]).find((name) => location.hash === `#/${name}`) ?? 'write';
const page = signal<PageName>(named());
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#/')) page.value = named();
});

export function Demo() {
  const { name, Page } = PAGES[page.value];
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="#/write" aria-label="Heddle in a tab">
          <img src={mark} alt="" width="26" height="26" />
          <span>
            Heddle <span class="faint">in a tab</span>
          </span>
        </a>
        <nav aria-label="Pages">
          {Object.entries(PAGES).map(([key, { name }]) => (
            <a key={key} href={`#/${key}`} aria-current={key === page.value ? 'page' : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <ThemeButton />
      </header>
      {problem.value !== undefined && (
        <div class="problem" role="alert">
          <span>{problem.value}</span>
          <button
            type="button"
            onClick={() => {
              problem.value = undefined;
            }}
          >
            Close
          </button>
        </div>
      )}
      <ModelBar />
      <main id="main" tabIndex={-1}>
        <h1 class="hidden">{name}</h1>
        <Page />
      </main>
    </>
  );
}

/** Which model is open, and where it runs. */
function ModelBar() {
  const { name: coming, progress } = loading.value ?? {};
  if (coming !== undefined) {
    const { loaded = 0, total } = progress ?? {};
    return (
      <div class="model-bar" role="status">
        <b>{coming}</b>
        <progress value={total ? loaded / total : undefined} aria-label={`Loading ${coming}`} />
        <span class="faint">
          {total ? `${formatBytes(loaded)} of ${formatBytes(total)}, kept in this browser` : 'opening'}
        </span>
      </div>
    );
  }
  if (!opened.value) return <div class="model-bar" />;
  const { name, model, took } = opened.value;
  const { parameters, pattern } = model.info;
  return (
    <div class="model-bar" role="status">
      <b>{name}</b>
      <span>{formatCount(parameters)} parameters</span>
      <span class="wide">
        <Layers pattern={pattern} />
      </span>
      <span>{threads === 1 ? '1 thread' : `${threads} threads`} of this tab, no server</span>
      <span class="faint">ready in {(took / 1000).toFixed(1)} s</span>
    </div>
  );
}
