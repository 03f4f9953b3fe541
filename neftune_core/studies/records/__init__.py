"""What a study leaves on disk: one folder per record, readable while it grows and after damage.

record      the folder: settings, facts, events, arms, answers
parts       typed models of its files, with their limits
log         the events, line by line
numbers     what was measured, by seed and by row
user_rows   copies of the rows that a study was given
owners      whose record it is, from an index
claims      the lock of its one writer
progress    where a study stands, from its events
integrity   what is missing or damaged, in sentences
disk        removing records, and the clean-up of a host
"""
