"""One file per encoder family; each class follows the `units.types.Encoder` protocol."""
