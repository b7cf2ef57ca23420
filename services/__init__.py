"""Back offices: today the OCPP central system."""
