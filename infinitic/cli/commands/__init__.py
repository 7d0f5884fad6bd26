"""The commands, one file each. Commands of several files have a room of their own beside this one."""
