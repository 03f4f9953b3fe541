/** The key that identifies the owner of records. */
import { store, stored } from "./dom.js";

const KEPT = "neftune-lab-owner";

/** Return the unguessable key of this browser, created on first use. Works over plain HTTP, where crypto.subtle is missing. */
export const ownerKey = () => {
  const known = stored(KEPT);
  if (known && /^[0-9a-f]{64}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  store(KEPT, key);
  return key;
};
