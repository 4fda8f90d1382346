/** Which page is open: it stands in the address behind `#/`. */
import { signal } from '@preact/signals';

const PAGES = ['chat', 'library', 'runs', 'inside'] as const;
export type PageName = (typeof PAGES)[number];

const named = (): PageName => PAGES.find((name) => location.hash === `#/${name}`) ?? 'chat';

export const page = signal<PageName>(named());

addEventListener('hashchange', () => {
  // The link that skips to the page is no page.
  if (location.hash.startsWith('#/')) page.value = named();
});

export function go(to: PageName): void {
  location.hash = `#/${to}`;
}
