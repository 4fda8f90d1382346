/** The frame of the pages of the studio and the demo: navigation, theme, and messages. */
import type { ComponentChildren, ComponentType } from 'preact';
import mark from '../heddle.svg';
import { problem } from './status.js';
import { ThemeButton } from './theme-button.js';

export interface PageOf {
  readonly name: string;
  readonly Page: ComponentType;
}

interface FrameProps {
  /** The part of the title after "Heddle". */
  readonly title: string;
  /** The pages by their names in the address. */
  readonly pages: Readonly<Record<string, PageOf>>;
  readonly page: string;
  /** Messages above the page, so that they do not cover it. */
  readonly children?: ComponentChildren;
}

export function Frame({ title, pages, page, children }: FrameProps) {
  const { name, Page } = pages[page]!;
  return (
    <>
      {/* No link, since the part of the address behind # is the page. */}
      <button type="button" class="skip" onClick={() => document.getElementById('main')!.focus()}>
        Skip to the page
      </button>
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
