"""Pictures in, unit descriptors out: one at a time, or a whole catalog into shards."""

from cfcd.encoding.bulk import EncodeSummary, encode_catalog
from cfcd.encoding.encoder import Encoder, Reading, load_model
from cfcd.encoding.shards import Encoded, read_encoded

__all__ = ["EncodeSummary", "Encoded", "Encoder", "Reading", "encode_catalog", "load_model", "read_encoded"]
