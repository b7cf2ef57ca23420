"""Wire faces: what a twin sounds like to a client."""
