def decode_message(*a): raise NotImplementedError
