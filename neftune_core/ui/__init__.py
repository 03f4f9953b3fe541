"""The page.

* Add a control: declare the setting in its settings class. A form of `parts.controls` that shows this class draws it.
* Add a figure: write a function in `figures/`, and show it with `parts.plot.live_figure` in the tab that has it.
* Add a tab: write `tabs/NAME_tab.py` with a function `build`, and add it to the tabs in `page.py`.
"""
