"""Talk to devices: roles, readings, errors, wire tables and clients. Imports no other room of the house."""
