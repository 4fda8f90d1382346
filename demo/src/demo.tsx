/** The demo's pages, and which model is open. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { formatBytes, formatCount } from '../../src/cli/format.js';
import { ChatPage } from '../../studio/src/chat/chat-page.js';
import { loading, threads } from '../../studio/src/hosts/tab.js';
import { InsidePage } from '../../studio/src/inside/inside-page.js';
import { Confirmation } from '../../studio/src/parts/confirmation.js';
import { Frame } from '../../studio/src/parts/frame.js';
import { Layers } from '../../studio/src/parts/layers.js';
import { opened } from './tab.js';
import { TrainPage } from './train-page.js';
import { OtherModels, WritePage } from './write-page.js';

const PAGES = {
  write: { name: 'Write', Page: Writing },
  train: { name: 'Train', Page: TrainPage },
  inside: { name: 'Look inside', Page: InsidePage },
} as const;

type PageName = keyof typeof PAGES;

const named = (): PageName =>
  (Object.keys(PAGES) as PageName[]).find((name) => location.hash === `#/${name}`) ?? 'write';
const page = signal<PageName>(named());
addEventListener('hashchange', () => {
  page.value = named();
});

export function Demo() {
  const { name } = PAGES[page.value];
  useEffect(() => {
    document.title = `${name} · Heddle in a tab`;
  }, [name]);
  return (
    <>
      <Frame title="in a tab" pages={PAGES} page={page.value}>
        <ModelBar />
      </Frame>
      <Confirmation />
    </>
  );
}

/** A model with a chat template is talked with, any other writes on. */
function Writing() {
  if (!opened.value?.chats) return <WritePage />;
  return (
    <>
      <ChatPage key={opened.value.name} />
      <OtherModels />
    </>
  );
}

/** Which model is open, and where it runs. */
function ModelBar() {
  const [[coming, progress] = []] = loading.value;
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
