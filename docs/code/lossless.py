"""The text that a model writes alone, in fewer passes: what followed in it before is proposed, and checked."""

import sightline as sl
from sightline import hub
from sightline.data import train_tokenizer
from sightline.objectives.causal import Causal
from sightline.objectives.model import built
from sightline.stacks.shape import Shape

tokenizer = train_tokenizer(["To be, or not to be, that is the question."], "byte")
shape = Shape(2, 32, 4, tokenizer.padded, context=128)
folder = hub.save(built(Causal(tokenizer.vocabulary), shape, tokenizer), "small")

alone, drafted = (
    sl.generate(folder, "To be, or not to be", length=64, greedy=True, drafter=drafter) for drafter in ("", "lookup")
)
print("the same text:", drafted.texts[0].text == alone.texts[0].text)
print("tokens in a round:", f"{alone.accepted:.1f} alone,", "more with a draft:", drafted.accepted > alone.accepted)
