/** Computations for the By row view of the Compare tab. Does not use the DOM. */
import { mean } from "./numbers.js";

/**
 * Compute the loss of an arm minus that of a reference at every token, or the arm's own loss if there is no reference.
 * @param {TokenLine} line
 * @param {string} arm
 * @param {string} reference
 * @returns {number[]}
 */
export const differences = ({ losses }, arm, reference) =>
  losses[arm].map((loss, place) => (reference in losses ? loss - losses[reference][place] : loss));

/**
 * Return the rows that have losses of the arm and the reference, sorted by mean absolute difference, largest first.
 * @param {TokenLine[]} lines
 * @param {string} arm
 * @param {string} reference "" for none
 */
export const sorted = (lines, arm, reference) =>
  lines
    .filter(({ losses }) => arm in losses && (!reference || reference in losses))
    .map((line) => {
      const own = differences(line, arm, reference);
      return { line, own, mean: mean(own), size: mean(own.map(Math.abs)) };
    })
    .sort((one, other) => other.size - one.size);

/**
 * Map a difference in nats to a colour intensity from 0 to 1.
 * @param {number} difference
 */
export const depth = (difference) => Math.abs(difference) / (0.5 + Math.abs(difference));
