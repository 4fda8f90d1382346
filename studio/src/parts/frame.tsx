/** What surrounds the pages of the studio and of the demo: their names, the theme, and what is told to the person. */
import type { ComponentChildren, ComponentType } from 'preact';
import mark from '../heddle.svg';
import { problem } from './status.js';
import { ThemeButton } from './theme-button.js';

export interface PageOf {
  readonly name: string;
  readonly Page: ComponentType;
}

interface FrameProps {
  /** Behind the name of Heddle. */
  readonly title: string;
  /** By what stands in the page's address. */
  readonly pages: Readonly<Record<string, PageOf>>;
  readonly page: string;
  /** What the person must know, above the page, so that nothing of it is covered. */
  readonly children?: ComponentChildren;
}

export function Frame({ title, pages, page, children }: FrameProps) {
  const { name, Page } = pages[page]!;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href={`#/${Object.keys(pages)[0]}`} aria-label={`Heddle ${title}`}>
          <img src={mark} alt="" width="26" height="26" />
          <span>
            Heddle <span class="faint">{title}</span>
          </span>
        </a>
        <nav aria-label="Pages">
          {Object.entries(pages).map(([key, { name }]) => (
            <a key={key} href={`#/${key}`} aria-current={key === page ? 'page' : undefined}>
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
      {children}
      <main id="main" tabIndex={-1}>
        <h1 class="hidden">{name}</h1>
        <Page />
      </main>
    </>
  );
}
