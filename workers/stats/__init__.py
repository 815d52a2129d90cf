"""Statistics with numpy alone: arrays in, frozen results out. Undefined is nan with a reason, never a silent 0."""
