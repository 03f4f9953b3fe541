/** Whose records these are. */
import { store, stored } from "./dom.js";

const KEPT = "neftune-lab-owner";

/** An unguessable key made here once and kept by this browser; also on plain http, where crypto.subtle is missing. */
export const ownerKey = () => {
  const known = stored(KEPT);
  if (known && /^[0-9a-f]{64}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  store(KEPT, key);
  return key;
};
