import { Part } from '../ui.tsx';
export function DownloadPart() {
  return (
    <Part name="Download" about="">
      <p />
    </Part>
  );
}
