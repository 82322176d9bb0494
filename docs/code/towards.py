"""Write with the family of ending.py: left to right, towards an ending."""

from sightline import hub
from sightline.decoders.canvas import Canvas
from sightline.decoders.loop import write
from sightline.decoders.policy import NextPlace
from sightline.stacks.cache import Cache

model = hub.load("runs/ending/model", package="ending").eval()
marks = model.tokenizer
beginning = [marks.bos, *marks.encode("I stand at the end")]
ending = [*marks.encode("and it is true."), marks.eos]
written = write(model.objective.fill, model.logits, Canvas.of([(beginning, 12, ending)]), NextPlace(), make_cache=Cache)
print(marks.decode(written.canvas.text(0)))
