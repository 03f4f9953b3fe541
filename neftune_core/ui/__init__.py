"""The page.

assets/docs/contributing.md has the steps in full.

* Add a control: declare the setting in its settings class. The forms for noise, training, measuring, answering and
  models draw it; a data setting is named in `tabs.data_tab`, and a study setting placed in `tabs.train_form`.
* Add a figure: write a function in `figures/`. A view of a study's curves is an entry in `STUDY_VIEWS` of
  `parts.study_views`; a figure behind the verdict of a finished study is one in `FIGURES` of `parts.evidence_view`;
  a tab shows any other figure with `parts.plot.live_figure`.
* Add a tab: write `tabs/NAME_tab.py` with a `build` function, and add it to the tabs in `page.py`.
"""
