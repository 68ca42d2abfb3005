"""The conveyor's stages: each claims what is due, does one outward act, and records the fact it learned."""
