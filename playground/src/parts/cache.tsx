import { Part } from '../ui.tsx';
export function CachePart() {
  return (
    <Part name="Cache" about="">
      <p />
    </Part>
  );
}
