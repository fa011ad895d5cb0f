"""From which score on a hit is a match."""
