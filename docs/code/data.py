"""Read a corpus: what is in it, how it was split, what was left out."""

from pathlib import Path

import sightline as sl

Path("rows.jsonl").write_text(
    '{"text": "A first text.", "topic": "one"}\n'
    '{"text": "", "topic": "two"}\n'
    '{"title": "no text here"}\n'
    "this is not JSON\n" + "".join(f'{{"text": "Text number {n}.", "topic": "three"}}\n' for n in range(40)),
    encoding="utf-8",
)

corpus = sl.read("rows.jsonl", label="topic")
print(corpus.summary())
for row in corpus.bad:
    print(row)
print(corpus.tree)
print("first training text:", corpus.train[0].text, corpus.train[0].label)
