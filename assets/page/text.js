/** Translation of the page's texts, by language.js. */

/** Translate an English text into the language of the page, and insert `values` for the names in braces. */
export const text = LabLanguage.text;

/**
 * Translate the singular or plural text for `count`, and insert `count` and `values`.
 * @param {number} count
 * @param {string} one
 * @param {string} many
 * @param {Record<string, unknown>} [values]
 */
export const agreeing = (count, one, many, values) => text(count === 1 ? one : many, { count, ...values });

/** Names of the units of noise strength; "alpha" is the same in every language. @type {Record<string, string>} */
const UNIT_NAMES = { std: text("std"), relative: text("relative"), share: text("share") };

/** Return the name of a unit of noise strength. @param {string} unit */
export const unitName = (unit) => UNIT_NAMES[unit] ?? unit;
