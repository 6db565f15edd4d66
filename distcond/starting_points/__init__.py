"""Networks that others have trained: how their tensors are wrapped, what they are called, where they belong here."""
