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
