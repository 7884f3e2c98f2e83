/** What the page is about, and the model that it runs. */
import { useRef } from 'preact/hooks';
import { openFiles } from '../engine.ts';
import { isDropping } from '../files.ts';
import { count } from '../format.ts';
import { facts } from '../state.ts';

const PARTS = ['Heads', 'Cache', 'Text', 'Recover', 'Download'];

export function Intro() {
  return (
    <header class="intro">
      <div>
        <h1>Grouped-query attention, in one tab</h1>
        <p>
          A language model keeps a key and a value of every token, once per key/value head. With fewer such
          heads that memory shrinks, and the model gets worse until it is trained a little. Move the slider
          and see both, on a real model that runs in this page. Nothing is sent anywhere.
        </p>
        <nav aria-label="Parts">
          {PARTS.map((name) => (
            <a key={name} href={`#${name.toLowerCase()}`} onClick={(event) => scrollTo(event, name)}>
              {name}
            </a>
          ))}
        </nav>
      </div>
      <ModelCard />
      {isDropping.value && (
        <div class="dropping">Drop a GGUF file, a Hugging Face folder, or a .txt file</div>
      )}
    </header>
  );
}

/** The address holds the state, so that its fragment cannot name a part. */
function scrollTo(event: Event, name: string): void {
  event.preventDefault();
  const part = document.getElementById(name.toLowerCase());
  part?.scrollIntoView();
  part?.querySelector<HTMLElement>('h2')?.focus();
}

function ModelCard() {
  const model = facts.value;
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class="card">
      {model === undefined ? (
        <p>Loading the model …</p>
      ) : (
        <>
          <p class="name">{model.name}</p>
          <p>
            {parameters(model.parameters)} parameters, {model.shape.numLayers} layers, {model.shape.numHeads}{' '}
            query heads and {ownHeadsText(model.shape.numKeyValueHeads)} in each.
          </p>
          <p class="note">Runs on {runsOn(model.backend)}.</p>
        </>
      )}
      <button type="button" onClick={() => input.current?.click()}>
        Open another model …
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        onChange={({ currentTarget }) => {
          const files = [...(currentTarget.files ?? [])];
          currentTarget.value = '';
          void openFiles(files);
        }}
      />
      <p class="note">Or drop a GGUF file or a Hugging Face folder on the page.</p>
    </div>
  );
}

function parameters(value: number): string {
  return value < 1e6 ? count(value) : `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} million`;
}

const ownHeadsText = (heads: number) => `${heads} key/value ${heads === 1 ? 'head' : 'heads'}`;

/** `wasm (relaxed, 2 threads)` in words. */
function runsOn(description: string): string {
  const [, threads, reason] = /(\d+ threads?)(?:: (.*))?\)$/.exec(description) ?? [];
  if (threads === undefined) return description;
  return `WebAssembly, ${threads}${reason === undefined ? '' : `, since ${reason}`}`;
}
