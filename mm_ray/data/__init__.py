"""The data road: manifest -> features -> Parquet store -> feature table -> partition -> client data."""
