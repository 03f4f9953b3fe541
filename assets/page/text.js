/** What the page says in its language (language.js). */

/** The English text in the language of the page, with `values` in place of the names in braces. */
export const text = LabLanguage.text;

/**
 * The one of two English texts that agrees with `count`, which is one of its values.
 * @param {number} count
 * @param {string} one
 * @param {string} many
 * @param {Record<string, unknown>} [values]
 */
export const agreeing = (count, one, many, values) => text(count === 1 ? one : many, { count, ...values });
