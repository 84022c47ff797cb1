"""One module for each table, named `<layer>__<table>`, with `suite(settings) -> Suite`."""
