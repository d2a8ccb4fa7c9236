"""How fast and how large: measurements of steps, epochs, memory and scaling, beside a peer's where one is asked for."""
