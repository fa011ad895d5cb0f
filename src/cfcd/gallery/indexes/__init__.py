"""What finds the nearest descriptors: kinds of index, which one is taken, how good it is."""
