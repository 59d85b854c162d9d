"""The pages of a study, a comparison and a store, and their tables and figures; made from plain records."""
