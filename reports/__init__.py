"""Turn a finished run into something people and programs read: the run folder, HTML, plots."""
