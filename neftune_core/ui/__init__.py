"""The page.

To extend it (assets/docs/contributing.md lists all steps):

* Add a control: declare the setting in its settings class. The forms for noise, training, measuring, answering and
  models include every setting automatically. List a data setting in `tabs.data_tab`, and add a study setting to
  `tabs.train_form`.
* Add a figure: write a function in `figures/`. Add a view of a study's curves to `STUDY_VIEWS` in `parts.study_views`,
  and a figure behind the verdict of a finished study to `FIGURES` in `parts.evidence_view`. Show any other figure with
  `parts.plot.live_figure`.
* Add a tab: write `tabs/NAME_tab.py` with a `build` function, and add it to the tabs in `page.py`.
"""
