/** Part 5: the converted model, trained or not, to take along; and the commands that do the same. */
import { signal } from '@preact/signals';
import type { DirectoryHandle } from 'gqa/checkpoint';
import { engine, working } from '../engine.ts';
import { chosenMethod, converted, facts, heads, ownHeads, trainedSteps, work } from '../state.ts';
import { Part } from '../ui.tsx';
import type { SaveFormat } from '../worker/save.ts';
import { blockLength, blocksPerStep, rate, steps } from './recover.tsx';

const saved = signal('');

async function download(format: SaveFormat): Promise<void> {
  await working('Writing the file', async () => {
    saved.value = '';
    const { name, blob } = await engine.saveAsFile(format);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still be reading it
    saved.value = `${name} is in your downloads.`;
  });
}

/** Only some browsers can write into a folder of the user's. */
const canPickFolder = 'showDirectoryPicker' in globalThis;
declare function showDirectoryPicker(options: { mode: 'readwrite' }): Promise<DirectoryHandle>;

async function writeFolder(): Promise<void> {
  const folder = await showDirectoryPicker({ mode: 'readwrite' }).catch(() => undefined); // not chosen
  if (folder === undefined) return;
  await working('Writing the folder', async () => {
    saved.value = '';
    saved.value = `Wrote ${folder.name}/${await engine.saveInto(folder)}.`;
  });
}

export function DownloadPart() {
  const canSave = converted.value !== undefined && work.value === undefined;
  const what = trainedSteps.value > 0 ? `trained for ${trainedSteps.value} steps` : 'not trained yet';
  return (
    <Part
      name="Download"
      about="Saves the converted model as it is now. llama.cpp and Ollama read GGUF; transformers and vLLM read the Hugging Face folder."
    >
      <div class="row actions">
        <button type="button" class="main" disabled={!canSave} onClick={() => void download('gguf')}>
          Download GGUF
        </button>
        <button type="button" disabled={!canSave} onClick={() => void download('folder')}>
          Download Hugging Face folder (.zip)
        </button>
        {canPickFolder && (
          <button type="button" disabled={!canSave} onClick={() => void writeFolder()}>
            Write into a folder …
          </button>
        )}
        <p class="note" role="status">
          {saved.value ||
            (converted.value === undefined
              ? 'Convert to fewer key/value heads first.'
              : `K = ${converted.value.numKeyValueHeads}, ${what}.`)}
        </p>
      </div>
      <h3>The same on the command line</h3>
      {heads.value === ownHeads.value ? (
        <p class="note">Choose fewer key/value heads to see the commands.</p>
      ) : (
        <pre>{commands()}</pre>
      )}
    </Part>
  );
}

function commands(): string {
  const model = facts.value;
  if (model === undefined) return '';
  const isBundled = model.name === 'moby-dick-gpt';
  const [from, text] = isBundled
    ? ['node_modules/gqa/demo/model', 'node_modules/gqa/demo/moby-dick.txt']
    : [model.name, 'text.txt'];
  const K = heads.value;
  const accumulate = blocksPerStep.value > 1 ? ` --accumulate ${blocksPerStep.value}` : '';
  const to = model.isGguf ? `converted-k${K}.gguf` : `converted-k${K}`;
  const calibrate = chosenMethod.value === 'similar' ? ` --calibrate ${text}` : '';
  return [
    `npx gqa convert ${from} ${to} --kv-heads ${K} --method ${chosenMethod.value}${calibrate}`,
    `npx gqa uptrain ${to} --data ${text} --out trained-k${K} --steps ${steps.value} --batch 1${accumulate} --block ${blockLength.value} --learning-rate ${rate.value}`,
    `npx gqa ${model.hasChat ? 'chat' : 'generate'} trained-k${K}/step-${steps.value}${model.hasChat ? '' : ' --prompt "The whale "'}`,
  ].join('\n');
}
