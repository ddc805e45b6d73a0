"""The cores without the world: states rebuilt and compared, and measurements of the whole."""
