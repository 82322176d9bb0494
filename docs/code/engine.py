"""One model folder through our own loop and through CTranslate2: the likeliest text is the same."""

import sightline as sl
from sightline import hub
from sightline.data import train_tokenizer
from sightline.objectives.causal import Causal
from sightline.objectives.model import built
from sightline.stacks.shape import Shape

tokenizer = train_tokenizer(["The sentence begins, and the sentence ends."], "byte")
llama = Shape(
    2, 32, 4, tokenizer.padded, context=64, kv_heads=2, norm="rms", qk_norm=False, activation="silu", gated=True
)
folder = hub.save(built(Causal(tokenizer.vocabulary), llama, tokenizer), "llama")

ours, theirs = (
    sl.generate(folder, "The sentence", length=24, greedy=True, engine=engine).texts[0]
    for engine in ("sightline", "ctranslate2")
)
print(ours.how)
print(theirs.how)
print("the same text:", ours.text == theirs.text)
