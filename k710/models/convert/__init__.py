"""One model, several forms: checkpoints rewritten from one published form to another."""
