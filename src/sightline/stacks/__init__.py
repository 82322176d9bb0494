"""What computes: a look (shown tokens and their view) in, states out; a head from states to nats.

A stack knows no direction, loss, optimizer or tokenizer: what a slot may see comes with the look.
"""
