/** Computations for the By row view of the Compare tab. Does not use the DOM. */
import { mean } from "./numbers.js";

/**
 * Loss of an arm minus that of a reference at every token; the arm's own loss without a reference.
 * @param {TokenLine} line
 * @param {string} arm
 * @param {string} reference
 * @returns {number[]}
 */
export const differences = ({ losses }, arm, reference) =>
  losses[arm].map((loss, place) => (reference in losses ? loss - losses[reference][place] : loss));

/**
 * The rows that have the arm and its reference, with their differences; rows with the largest differences come first.
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
 * Share of colour for a difference in nats: 0 for none, towards 1 for large ones.
 * @param {number} difference
 */
export const depth = (difference) => Math.abs(difference) / (0.5 + Math.abs(difference));
