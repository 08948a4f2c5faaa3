"""Tables: records to Parquet and back. Never imports torch."""
