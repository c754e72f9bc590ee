"""Ask base and arms, and judge the answers."""
