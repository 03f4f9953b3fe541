"""Pretraining of the bundled model: training, measurement, and its card."""
