"""Where the parts of a node or a gateway are, and how the doctor reaches them."""
