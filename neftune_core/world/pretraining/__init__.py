"""How the bundled model is made: vocabulary, pretraining, measuring, its card."""
