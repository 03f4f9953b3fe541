"""What leaves the lab. Read in this order:

models        one arm as a folder, with its model card (card) and where to get its base (bases)
archive       records and models as zip files; importing checks them on the way back
script        a study as code for other trainers, around the script standalone
report        one HTML file of a study or sweep
  study_report  content for a study
  sweep_report  content for a sweep
  report_parts  what both share
notebook      a study in a notebook
"""
