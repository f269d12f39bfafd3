"""The operator's side: galleries of encrypted templates and comparisons it cannot read."""
