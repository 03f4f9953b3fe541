/** Translation of the page's texts (language.js). */

/** Translate an English text to the language of the page, and insert `values` for the names in braces. */
export const text = LabLanguage.text;

/**
 * The singular or plural text for `count`, which is one of the values.
 * @param {number} count
 * @param {string} one
 * @param {string} many
 * @param {Record<string, unknown>} [values]
 */
export const agreeing = (count, one, many, values) => text(count === 1 ? one : many, { count, ...values });
