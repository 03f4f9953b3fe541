"""Storage of studies: one folder per record, readable during a run and after damage.

record      folder of a record: settings, metadata, events, arms, answers
schema      typed models of its files, with size limits
log         event log, one event per line; JSONL and CSV text
numbers     measures by seed and by row
tokens      loss of every answer token
user_rows   copies of the user's row files
owners      folders of all records, their owners, and limits on their disk space
failures    reasons why removed records failed
progress    status of a study, computed from its events
integrity   descriptions of missing or damaged parts
removal     removal of records on request and by age or size
"""
