"""A gallery on a Milvus server, with the calls and results of one in a folder."""
