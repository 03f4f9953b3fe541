"""Export of models, records, scripts and reports. Suggested reading order:

models        one arm as a folder, with its model card (card) and the source of its base (bases)
archive       records and models as zip files; `importing` checks imported records
script        a study as code for other trainers, based on the script `standalone`
report        one HTML file of a study or sweep
  study_report  content for a study
  sweep_report  content for a sweep
  report_parts  components that both share
notebook      a study in a notebook
"""
