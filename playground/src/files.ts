/** Files that are dropped on the page, also whole folders. */
import { signal } from '@preact/signals';
import { openFiles } from './engine.ts';

/** Whether files are held over the page. */
export const isDropping = signal(false);

export function acceptDrops(): void {
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    isDropping.value = true;
  });
  document.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) isDropping.value = false;
  });
  document.addEventListener('drop', async (event) => {
    event.preventDefault();
    isDropping.value = false;
    // Entries must be taken before the first await.
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
    const dropped = [...(event.dataTransfer?.files ?? [])];
    const [entry] = entries;
    if (entries.length === 1 && entry?.isDirectory)
      await openFiles(await filesIn(entry as FileSystemDirectoryEntry), entry.name);
    else await openFiles(dropped);
  });
}

/** The files of a folder, without those of folders in it. */
async function filesIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const files: File[] = [];
  for (;;) {
    // A reader gives some entries at a time, none at the end.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (entries.length === 0) return files;
    for (const entry of entries) {
      if (entry.isFile)
        files.push(
          await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)),
        );
    }
  }
}
