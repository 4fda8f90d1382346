import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/newsreader/wght.css';
import '../../studio/src/style/base.css';
import '../../studio/src/style/shell.css';
import '../../studio/src/style/plot.css';
import '../../studio/src/style/chat.css';
import '../../studio/src/style/inside.css';
import './demo.css';
import { render } from 'preact';
import { report } from '../../studio/src/parts/status.js';
import { Demo } from './demo.js';
import { isolate } from './isolate.js';
import { openShipped } from './tab.js';

// Where the page is opened once more, to be isolated, nothing is begun.
if (await isolate()) {
  render(<Demo />, document.body);
  openShipped().catch(report);
}
