"""Storage of a study: one folder per record, readable while it grows and after damage.

record      the folder: settings, facts, events, arms, answers
schema      typed models of its files, with their limits
log         the events, line by line
numbers     measures by seed and by row
user_rows   copies of the user's rows
owners      folders of the records, and the index of their owners
disk_quota  limits on the disk space of records
failures    why removed records failed
claims      lock of the single writer
progress    status of a study, from its events
integrity   missing or damaged parts, in sentences
removal     removal of records, and clean-up of a host
"""
