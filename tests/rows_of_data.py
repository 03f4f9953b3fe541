"""Rows that several data tests share."""

GOOD = '{"instruction": "Add 1 and 1.", "input": "", "output": "2"}'
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
