import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/newsreader/wght.css';
import './style/base.css';
import './style/shell.css';
import './style/plot.css';
import './style/chat.css';
import './style/library.css';
import './style/runs.css';
import './style/inside.css';
import './chat/shared-chat.js';
import { render } from 'preact';
import { runOn } from './hosts/hosts.js';
import { server } from './hosts/server.js';
import { tab } from './hosts/tab.js';
import { Shell } from './shell.js';

runOn(tab, server);
render(<Shell />, document.body);
