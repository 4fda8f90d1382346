/** What surrounds the pages: their tabs, the theme, and what is told to the person. */
import { useEffect } from 'preact/hooks';
import { keepKey } from './api.js';
import { ChatPage } from './chat/chat-page.js';
import mark from './heddle.svg';
import { InsidePage } from './inside/inside-page.js';
import { LibraryPage } from './library/library-page.js';
import { announcement } from './parts/announcement.js';
import { Confirmation } from './parts/confirmation.js';
import { connected, tryAgain, trying } from './parts/connection.js';
import { page } from './parts/route.js';
import { locked, problem } from './parts/status.js';
import { ThemeButton } from './parts/theme-button.js';
import { RunsPage } from './runs/runs-page.js';

const PAGES = {
  chat: { name: 'Chat', Page: ChatPage },
  library: { name: 'Library', Page: LibraryPage },
  runs: { name: 'Runs', Page: RunsPage },
  inside: { name: 'Look inside', Page: InsidePage },
} as const;

export function Shell() {
  const { name, Page } = PAGES[page.value];
  useEffect(() => {
    document.title = `${name} · Heddle studio`;
  }, [name]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="#/chat" aria-label="Heddle studio">
          <img src={mark} alt="" width="26" height="26" />
          <span>
            Heddle <span class="faint">studio</span>
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
      <Notices />
      <main id="main" tabIndex={-1}>
        <h1 class="hidden">{name}</h1>
        <Page />
      </main>
      <div class="hidden" role="status">
        {announcement.value}
      </div>
      <Confirmation />
    </>
  );
}

/** What the person must know, above the page, so that nothing of it is covered. */
function Notices() {
  return (
    <>
      {!connected.value && (
        <div class="problem" role="alert">
          <span>No connection to the server: trying again…</span>
          <button type="button" disabled={trying.value} onClick={tryAgain}>
            Retry
          </button>
        </div>
      )}
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
      {locked.value && <KeyForm />}
    </>
  );
}

function KeyForm() {
  return (
    <form
      class="problem"
      onSubmit={(event) => {
        event.preventDefault();
        keepKey(String(new FormData(event.currentTarget).get('key')));
        location.reload();
      }}
    >
      <label>
        This server wants a key <input name="key" type="password" autocomplete="off" required />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}
