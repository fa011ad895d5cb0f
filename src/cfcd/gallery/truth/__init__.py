"""The truth of a gallery: items and descriptors, kept twice, each row with a checksum."""
