"""How each kind of file becomes a picture; only pixels leave this folder."""
