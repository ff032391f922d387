"""Training: recipes, the loop, evaluation."""
