"""The commands, one file each. A command that needs several files has a package of its own."""
