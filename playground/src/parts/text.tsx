import { Part } from '../ui.tsx';
export function TextPart() {
  return (
    <Part name="Text" about="">
      <p />
    </Part>
  );
}
