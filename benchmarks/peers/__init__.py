"""Scripts that run in the environments of other people's programs; nothing of ours imports them."""
