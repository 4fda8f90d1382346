/** What surrounds the three pages: their tabs, the theme, and what is told to the person. */
import { useEffect } from 'preact/hooks';
import { keepKey } from './api.js';
import { ChatPage } from './chat/chat-page.js';
import mark from './heddle.svg';
import { InsidePage } from './inside/inside-page.js';
import { page } from './parts/route.js';
import { announcement, locked, problem } from './parts/status.js';
import { nextTheme, theme } from './parts/theme.js';
import { RunsPage } from './runs/runs-page.js';

const PAGES = {
  chat: { name: 'Chat', Page: ChatPage },
  runs: { name: 'Runs', Page: RunsPage },
  inside: { name: 'Look inside', Page: InsidePage },
} as const;

const THEMES = { auto: 'as the system', light: 'light', dark: 'dark' } as const;

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
        <button
          type="button"
          class="plain"
          onClick={nextTheme}
          aria-label={`Colours: ${THEMES[theme.value]}. Change`}
          title={`Colours: ${THEMES[theme.value]}`}
        >
          <ThemeIcon />
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <h1 class="hidden">{name}</h1>
        <Page />
      </main>
      <div class="hidden" role="status">
        {announcement.value}
      </div>
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

function ThemeIcon() {
  const shapes = {
    auto: <path d="M12 4a8 8 0 1 0 0 16z" fill="currentColor" />,
    light: <circle cx="12" cy="12" r="4" fill="currentColor" />,
    dark: <circle cx="12" cy="12" r="8" fill="currentColor" />,
  };
  return (
    <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
      <circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="1.6" />
      {shapes[theme.value]}
    </svg>
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
