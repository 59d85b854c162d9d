"""The data pipeline: manifest -> features -> Parquet store -> feature table -> partition -> client data."""
