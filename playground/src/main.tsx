/** The page. */
import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import './parts.css';
import './lower-parts.css';
import { keepAddress } from './address.ts';
import { openFirst } from './engine.ts';
import { acceptDrops } from './files.ts';
import { CachePart } from './parts/cache.tsx';
import { Controls } from './parts/controls.tsx';
import { DownloadPart } from './parts/download.tsx';
import { HeadsPart } from './parts/heads.tsx';
import { Intro } from './parts/intro.tsx';
import { RecoverPart } from './parts/recover.tsx';
import { TextPart } from './parts/text.tsx';

function Page() {
  return (
    <>
      <Intro />
      <Controls />
      <main>
        <HeadsPart />
        <CachePart />
        <TextPart />
        <RecoverPart />
        <DownloadPart />
      </main>
    </>
  );
}

render(<Page />, document.body);
keepAddress();
acceptDrops();
void openFirst();
