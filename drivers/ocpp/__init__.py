"""The OCPP-J remote procedure call layer, used by both ends."""
